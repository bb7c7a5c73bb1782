from __future__ import annotations

import logging

import pytest

from apps.monitoring import channels
from apps.monitoring.channels import Outcome
from tests.receivers import mail_server, webhook
from tests.servers import free_port

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"


@pytest.fixture
def hook():
    with webhook() as made:
        yield made


@pytest.fixture
def mails():
    with mail_server() as made:
        yield made


@pytest.fixture
def _smtp(settings, mails):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", mails.port
    settings.ADMINS = [("Ada", "ada@example.com"), ("Bob", "bob@example.com")]


def mailto(mails) -> str:
    return f"mailto://127.0.0.1:{mails.port}?to=ada@example.com&from=iota@example.com"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("json://hooks.example.com/secret-path", "webhook: hooks.example.com"),
        (
            "jsons://u:secret-word@example.com:8443/x?+X-Token=secret",
            "webhook, HTTPS: example.com:8443",
        ),
        (SLACK, "Slack"),
        (
            "mailtos://user:secret@example.com?to=ada@example.org",
            "mail, encrypted: example.com:587",
        ),
        ("discord://123456789012345678/" + "secret-token" * 5, "Discord"),
    ],
)
def test_what_is_shown_of_an_address_is_no_secret(url, shown):
    assert channels.receiver(url) == shown
    assert "secret" not in shown
    assert "TIiaj" not in shown


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "It begins with one of"),
        ("file:///etc/passwd", "It begins with one of"),
        ("https://hooks.slack.com/services/A/B/C", "It begins with one of"),
        ("syslog://", "It begins with one of"),
        ("json://", "no complete address of webhook"),
        ("slack://only-one-token", "no complete address of Slack"),
        ("json://example.com?redirect=yes", "option 'redirect'"),
        ("json://example.com?retry=9", "option 'retry'"),
        ("json://example.com?rto=9999", "option 'rto'"),
        (f"{SLACK}?template=/etc/passwd", "option 'template'"),
        ("mailto://u:p@example.com?to=a@example.org&pgpkey=/etc/passwd", "option 'pgpkey'"),
        ("mailto://u:p@example.com?to=a@example.org,b@example.org", "One receiver per channel"),
    ],
)
def test_what_is_not_allowed_is_refused_without_repeating_it(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        channels.parse(url)
    assert "passwd" not in str(caught.value)


def test_a_webhook_gets_it(hook):
    sent = channels.send(hook.url, "Title", "Body", bad=True)
    assert sent == channels.Sending(Outcome.SENT)
    (taken,) = hook.taken
    assert (taken["title"], taken["message"], taken["type"]) == ("Title", "Body", "failure")


def test_a_mail_gets_through(mails):
    assert channels.send(mailto(mails), "Title", "Body", bad=True).outcome is Outcome.SENT
    (taken,) = mails.taken
    assert (taken["Subject"], taken["To"]) == ("Title", "ada@example.com")


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_refusal_can_be_sent_again(hook, status):
    hook.answers = [status]
    sent = channels.send(hook.url, "Title", "Body", bad=True)
    assert sent == channels.Sending(Outcome.REFUSED, f"answered {status}")


def test_a_redirect_is_not_followed(hook):
    hook.answers = [307]
    assert channels.send(hook.url, "Title", "Body", bad=True).why == "answered 307"
    assert len(hook.taken) == 1


def test_nobody_there_can_be_tried_again():
    sent = channels.send(f"json://127.0.0.1:{free_port()}", "Title", "Body", bad=True)
    assert sent == channels.Sending(Outcome.REFUSED, "connection refused")
    sent = channels.send(
        f"mailto://127.0.0.1:{free_port()}?to=a@example.org&from=b@example.org", "T", "B", bad=True
    )
    assert sent == channels.Sending(Outcome.REFUSED, "connection refused")


def test_a_connection_lost_before_the_answer_is_unclear(hook):
    hook.answers = [0]
    sent = channels.send(hook.url, "Title", "Body", bad=True)
    assert sent.outcome is Outcome.UNCLEAR
    assert len(hook.taken) == 1


def test_an_answer_that_does_not_come_ends_in_time_and_is_unclear(hook, monkeypatch):
    monkeypatch.setattr(channels, "READ_S", 0.2)
    hook.hang_s = 2
    assert channels.send(hook.url, "Title", "Body", bad=True).outcome is Outcome.UNCLEAR


@pytest.mark.parametrize("place", ["at_receiver", "at_data"])
def test_a_mail_server_that_refuses_can_be_tried_again(mails, place):
    setattr(mails, place, ["451 try again later"])
    sent = channels.send(mailto(mails), "Title", "Body", bad=True)
    assert sent.outcome is Outcome.REFUSED
    assert mails.taken == []
    assert channels.send(mailto(mails), "Title", "Body", bad=True).outcome is Outcome.SENT


def test_a_mail_server_that_goes_away_with_the_mail_is_unclear(mails):
    mails.answering = False
    assert channels.send(mailto(mails), "Title", "Body", bad=True).outcome is Outcome.UNCLEAR
    assert len(mails.taken) == 1


@pytest.mark.usefixtures("_smtp")
class TestMailToAdmins:
    def test_it_gets_through(self, mails):
        assert channels.mail("Title", "Body").outcome is Outcome.SENT
        (taken,) = mails.taken
        assert (taken["Subject"], taken["To"]) == (
            "[IOTA] Title",
            "ada@example.com, bob@example.com",
        )

    def test_refused(self, mails):
        mails.at_data = ["451 try again later"]
        sent = channels.mail("Title", "Body")
        assert sent == channels.Sending(Outcome.REFUSED, "the mail server answered 451")
        mails.at_receiver = ["550 no"] * 2
        assert channels.mail("Title", "Body").outcome is Outcome.REFUSED
        mails.close()
        assert channels.mail("Title", "Body").outcome is Outcome.REFUSED

    def test_gone_with_the_mail(self, mails):
        mails.answering = False
        assert channels.mail("Title", "Body").outcome is Outcome.UNCLEAR


def test_addresses_stay_out_of_the_log(hook, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.INFO)  # as in the settings
    url = hook.url + "/very-secret-path"
    channels.send(url, "Title", "Body", bad=True)
    hook.answers = [500, 0]
    channels.send(url, "Title", "Body", bad=True)
    channels.send(url, "Title", "Body", bad=True)
    with pytest.raises(ValueError, match="complete"):
        channels.parse("slack://very-secret-token")
    assert "very-secret" not in caplog.text
