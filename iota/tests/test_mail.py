from __future__ import annotations

import logging

import pytest
from django.utils.log import AdminEmailHandler

from iota.config import ConfigurationError, create_settings
from iota.mail import MailServer

BASE = {
    "SECRET_KEY": "s" * 50,
    "IOTA_IDENTITY_KEY": "k" * 40,
    "ALLOWED_HOSTS": "example.com",
}


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail", MailServer("smtp", "mail", 25)),
        ("smtp+tls://ada:p%40ss@mail:2525/", MailServer("smtp+tls", "mail", 2525, "ada", "p@ss")),
        ("smtps://mail", MailServer("smtps", "mail", 465)),
    ],
)
def test_a_url_says_where_mail_leaves_and_how(url, server):
    assert MailServer.of(url) == server


@pytest.mark.parametrize("url", ["mail", "http://mail", "smtp://", "smtp://mail:x", "smtp://m/box"])
def test_what_is_no_mail_server_is_refused_without_its_password(url):
    with pytest.raises(ConfigurationError, match=r"IOTA_MAIL_URL=.*use a URL of smtp, smtp\+tls"):
        create_settings({**BASE, "IOTA_MAIL_URL": url})
    with pytest.raises(ConfigurationError) as caught:
        create_settings({**BASE, "IOTA_MAIL_URL": "http://ada:hunter2@mail"})
    assert "hunter2" not in str(caught.value)


def test_the_password_is_not_shown():
    settings = create_settings({**BASE, "IOTA_MAIL_URL": "smtp://ada:hunter2@mail"})
    assert "hunter2" not in repr(settings)
    assert settings.mail_server.password == "hunter2"


def test_admins_are_addresses():
    settings = create_settings({**BASE, "IOTA_ADMINS": "ada@example.com, bob@example.com"})
    assert settings.admins == ("ada@example.com", "bob@example.com")
    with pytest.raises(ConfigurationError, match="IOTA_ADMINS"):
        create_settings({**BASE, "IOTA_ADMINS": "ada"})


def test_no_request_waits_for_a_mail_of_its_error():
    handlers = [*logging.getLogger("django").handlers, *logging.getLogger().handlers]
    assert not any(isinstance(handler, AdminEmailHandler) for handler in handlers)
