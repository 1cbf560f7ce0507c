"""The sample client of docker-compose.yml: sends as a user and as a stranger, and reads it at Dovecot."""

import imaplib
import os
import smtplib
import ssl
import sys
import time
import uuid

PASSWORD = os.environ["SAMPLE_PASSWORD"]
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
# A certificate that nobody vouches for can only be taken as it is.
UNVERIFIED = ssl._create_unverified_context()


def submit(subject: str) -> None:
    with smtplib.SMTP("elemta", 587, timeout=30) as connection:
        connection.starttls(context=UNVERIFIED)
        connection.login("sender@example.org", PASSWORD)
        connection.sendmail(
            "sender@example.org",
            ["alice@example.org"],
            f"From: sender@example.org\r\nTo: alice@example.org\r\nSubject: {subject}\r\n\r\nHello\r\n",
        )


def from_outside(text: str) -> int:
    """The code that the end of the data got."""
    with smtplib.SMTP("elemta", 25, timeout=60) as connection:
        connection.starttls(context=UNVERIFIED)
        connection.ehlo()
        connection.mail("stranger@example.com")
        connection.rcpt("alice@example.org")
        return connection.data(f"From: stranger@example.com\r\nSubject: offer\r\n\r\n{text}\r\n")[0]


def read(subject: str) -> str:
    """The message as Dovecot has it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with imaplib.IMAP4("dovecot", 1143, timeout=20) as mailbox:
            mailbox.login("alice@example.org", PASSWORD)
            mailbox.select("INBOX")
            _, found = mailbox.search(None, "SUBJECT", f'"{subject}"')
            for number in found[0].split():
                _, parts = mailbox.fetch(number, "(RFC822)")
                return parts[0][1].decode()
        time.sleep(0.5)
    sys.exit(f"not in the mailbox after a minute: {subject}")


if __name__ == "__main__":
    mark = uuid.uuid4().hex
    submit(mark)
    message = read(mark)
    assert "DKIM-Signature: v=1;" in message, message
    print("submitted, signed, delivered and read")
    ham, spam = from_outside("An honest offer."), from_outside(GTUBE)
    print(f"an honest message: {ham}, a test message for spam filters: {spam}")
    sys.exit(ham != 250 or spam < 500)
