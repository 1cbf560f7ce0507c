"""The fixtures that authors of plugins get from an installed elemta, for the tests here."""

pytest_plugins = ["elemta.testing.pytest_plugin"]
