"""What is raised when text is not what the grammar of mail allows."""


class MailSyntaxError(ValueError):
    """The text is no address, path, domain or header; the message names what is wrong, without quoting it."""


class PathTooLong(MailSyntaxError):
    """A local part, domain or path above the limits of RFC 5321 §4.5.3.1."""
