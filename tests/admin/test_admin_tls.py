"""What the metrics say of certificates and handshakes."""

from __future__ import annotations

from pathlib import Path

import trio.testing
from admin_bed import open_bed
from prometheus_client.parser import text_string_to_metric_families
from tls_files import DAY, NOW, write_pair

from elemta.config import TlsConfig
from elemta.tls import TlsContexts


async def test_the_end_of_each_certificate_and_the_handshakes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    pair = write_pair(tmp_path, "mx", "mx.test", days=30)
    async with open_bed() as bed:
        bed.facts.tls = TlsContexts(TlsConfig(pair.certificate, pair.key))
        answer = await bed.request("GET", "/metrics")
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }
    end = samples["elemta_certificate_end_timestamp_seconds", str(pair.certificate), "mx.test"]
    assert end == NOW + 30 * DAY
    assert samples["elemta_tls_handshakes", "running"] == 0
    assert samples["elemta_tls_handshakes", "waiting"] == 0
