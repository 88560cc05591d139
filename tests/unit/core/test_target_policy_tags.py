"""What the tags of an endpoint say of its targets, and what is refused."""

from __future__ import annotations

import math

import pytest

from hostler.core.targets.tags import TargetPolicy, check, read


def test_an_endpoint_without_hostlers_tags_has_the_default_policy():
    usual = TargetPolicy(600.0)
    assert read({}, usual) == usual
    assert read({"team": "a", "hostler": "c"}, usual) == usual
    assert not usual.pins("a")


def test_tags_set_the_idle_timeout_the_pinned_and_the_preloaded_targets():
    tags = {"hostler:idle-ttl": "90", "hostler:pin": "a.tar.gz  /b.tar.gz", "hostler:preload": "c.tar.gz a.tar.gz"}
    policy = read(tags, TargetPolicy(600.0))
    assert policy == TargetPolicy(90.0, frozenset({"a.tar.gz", "b.tar.gz"}), (), ("c.tar.gz", "a.tar.gz"))
    assert policy.pins("a.tar.gz")
    assert not policy.pins("c.tar.gz")
    assert read({"hostler:idle-ttl": "0"}, TargetPolicy(600.0)).idle_ttl == 0


def test_a_preloaded_target_is_not_idle_before_its_first_call():
    policy = read({"hostler:idle-ttl": "90", "hostler:preload": "a"}, TargetPolicy())
    assert policy.expires("a", 10.0, 0) == math.inf
    assert policy.expires("a", 10.0, 1) == policy.expires("b", 10.0, 0) == 100.0
    assert TargetPolicy().expires("b", 10.0, 5) == math.inf


def test_a_word_that_ends_in_dots_pins_every_name_that_begins_so():
    policy = read({"hostler:pin": "region-... tenants/7/..."}, TargetPolicy())
    assert [policy.pins(name) for name in ("region-1", "tenants/7/x/y", "tenants/70", "other")] == [
        True,
        True,
        False,
        False,
    ]
    assert read({"hostler:pin": "..."}, TargetPolicy()).pins("whatever")


def test_names_that_one_value_has_no_room_for_go_on_in_further_tags_in_the_order_of_their_keys():
    tags = {"hostler:preload:2": "c d", "hostler:preload": "a b a", "hostler:pin:x": "a", "hostler:pin": "b"}
    policy = read(tags, TargetPolicy())
    assert policy.preload == ("a", "b", "c", "d")
    assert policy.pinned == {"a", "b"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "hostler:idle-ttl",
            "soon",
            "must be seconds, such as 600 and 31536000 (a year) at most, or 0 for never; not 'soon'",
        ),
        ("hostler:idle-ttl", "", "must be seconds"),
        ("hostler:idle-ttl", "-1", "must be seconds"),
        ("hostler:idle-ttl", "nan", "must be seconds"),
        ("hostler:idle-ttl", "1e300", "must be seconds"),
        ("hostler:idle-ttl", "1e3", "must be seconds"),
        ("hostler:idle-ttl", "1_0", "must be seconds"),
        ("hostler:idle-ttl", " 5", "must be seconds"),
        ("hostler:idle-ttl", "5.", "must be seconds"),
        ("hostler:idle-ttl", "inf", "must be seconds"),
        ("hostler:idle-ttl", "\u0663", "must be seconds"),
        ("hostler:idle-ttl:2", "1", "hostler knows no tag hostler:idle-ttl:2"),
        (
            "hostler:ttl",
            "1",
            "hostler knows no tag hostler:ttl, only hostler:idle-ttl, hostler:pin and hostler:preload",
        ),
        ("hostler:idle-ttl", "99999999", "such as 600 and 31536000 (a year) at most, or 0 for never; not '99999999'"),
        ("hostler:pin:", "a", "hostler knows no tag hostler:pin:"),
        ("hostler:preload:", "a", "hostler knows no tag hostler:preload:"),
        (
            "Hostler:pin",
            "a",
            "hostler knows no tag Hostler:pin, only hostler:idle-ttl, hostler:pin and hostler:preload, in",
        ),
        ("hostler:Pin", "a", "hostler knows no tag hostler:Pin"),
        ("hostler:", "1", "hostler knows no tag"),
        ("hostler:pin", " ", "must hold the names of targets"),
        ("hostler:pin", "a ../b", "'../b', which can be no TargetModel: it holds the segment '..'"),
        ("hostler:pin", "tenants/", "'tenants/', which can be no TargetModel"),
        ("hostler:preload", "", "must hold the names of targets"),
        ("hostler:preload", "a region-...", "must name each target, unlike hostler:pin; 'region-...' names several"),
    ],
)
def test_a_tag_that_cannot_be_parsed_is_refused_and_has_no_effect(key: str, value: str, message: str):
    with pytest.raises(ValueError, match=r".*") as refused:
        check(key, value)
    assert message in str(refused.value)
    assert read({key: value}, TargetPolicy(600.0)) == TargetPolicy(600.0)
