"""What is raised when text is not what the grammar of mail allows."""


class MailSyntaxError(ValueError):
    """The text is no address, path, domain or header; the message names what is wrong, without quoting it."""
