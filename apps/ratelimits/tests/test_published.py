"""Edits of two people at once, each in a transaction of their own."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group
from django.db import connections, transaction

from ..models import Override, RateLimit
from ..models.published import RulesetVersion, one_edit
from ..modes import set_modes

MEANWHILE_S = 0.3
"""So long one waits in the middle of their edit for the other, who may have to stand in line."""


def save(limit):
    RateLimit.objects.get(pk=limit.pk).save()


def update(limit):
    RateLimit.objects.filter(pk=limit.pk).update(message="Later, please.")


def regroup(limit):
    RateLimit.objects.get(pk=limit.pk).groups.add(Group.objects.get(name="partners"))
    save(limit)


def exempt(limit):
    Override.objects.create(limit=limit, network=f"203.0.113.{limit.pk % 256}", action="unlimited")
    save(limit)


def switch(limit):
    set_modes({limit.name: "off"})


def load(limit):
    with one_edit():
        save(limit)


def delete(limit):
    RateLimit.objects.get(pk=limit.pk).delete()


@pytest.mark.parametrize("edit", [save, update, regroup, exempt, switch, load, delete])
def test_two_that_edit_the_same_limits_in_another_order_stand_in_line(engine, edit):
    first, second = (RateLimit.objects.create(name=name, quota=9) for name in ("a", "b"))
    Group.objects.create(name="partners")
    before = RulesetVersion.current()
    halfway = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def work(number, edits):
        try:
            with transaction.atomic():
                edits[0]()
                halfway[number].set()
                halfway[1 - number].wait(MEANWHILE_S)
                edits[1]()
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    others = (
        [lambda: update(second), lambda: update(first)],
        [lambda: edit(first), lambda: edit(second)],
    )
    both = [threading.Thread(target=work, args=one) for one in enumerate(others)]
    for one in both:
        one.start()
    for one in both:
        one.join(30)
    assert failed == []
    assert RulesetVersion.current() > before
    assert RateLimit.objects.count() == (0 if edit is delete else 2)
