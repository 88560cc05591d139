import itertools
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from hostler.core.endpoints.rollout import Failed, Ready
from hostler.errors import UserError
from hostler.store.records import ListQuery, Record
from hostler.store.store import NameTaken, NotInService, ResourceNotFound, Store, TooManyTags
from hostler.store.tables import VERSION

REGION = "eu-west-1"
CONFIG = {"EndpointConfigName": "Config", "ProductionVariants": [{"VariantName": "v", "ModelName": "m"}]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hostler.db"


@pytest.fixture
def store(path):
    store = Store(path)
    yield store
    store.close()


def model(name, created=1.0, region=REGION):
    return Record(region, name, f"arn:{region}:model/{name.lower()}", created, {"ModelName": name})


def create_endpoint(store, name, created=1.0, region=REGION, new_tags=None):
    return store.create_endpoint(
        region=region,
        name=name,
        arn=f"arn:{region}:endpoint/{name.lower()}",
        created=created,
        document={"EndpointName": name},
        config=CONFIG,
        models={"m": {"ModelName": "m"}},
        new_tags=new_tags or {},
    )


def names(store, **filters):
    return [record.name for record in store.list_records("model", ListQuery(REGION, 100, **filters))]


# --- records


def test_a_record_is_found_in_any_letter_case_and_returned_unchanged(store):
    store.create_record("model", model("MyModel"), {})
    assert store.record("model", REGION, "mYmODEL") == model("MyModel")
    assert store.record("endpoint-config", REGION, "MyModel") is None
    assert store.record("model", "us-east-1", "MyModel") is None


def test_a_name_is_taken_in_every_letter_case_but_only_in_its_region_and_kind(store):
    store.create_record("model", model("MyModel"), {"a": "1"})
    with pytest.raises(NameTaken):
        store.create_record("model", model("mymodel"), {"a": "2"})
    assert store.list_tags(model("MyModel").arn) == {"a": "1"}
    store.create_record("endpoint-config", replace(model("MyModel"), arn="arn:config"), {})
    store.create_record("model", model("MyModel", region="us-east-1"), {})


def test_a_deleted_record_leaves_neither_tags_nor_a_taken_name(store):
    store.create_record("model", model("m"), {"a": "1"})
    assert store.delete_record("model", REGION, "M") is True
    assert store.delete_record("model", REGION, "M") is False
    store.create_record("model", model("m"), {})
    assert store.list_tags(model("m").arn) == {}


def test_a_document_with_any_text_is_returned_unchanged(store):
    document = {"text": "\0 ' \" \u2028 \U0001f40e %s {} ;--", "number": 1.5, "nested": [{"a": None}, True]}
    store.create_record("model", replace(model("m"), document=document), {})
    assert store.record("model", REGION, "m").document == document


# --- lists


def test_pages_are_sorted_by_time_with_ties_by_name_newest_first(store):
    for name, created in (("b", 2.0), ("A", 2.0), ("c", 1.0)):
        store.create_record("model", model(name, created), {})
    assert names(store) == ["b", "A", "c"]
    assert names(store, descending=False) == ["c", "A", "b"]
    assert names(store, sort="Name", descending=False) == ["A", "b", "c"]


def test_filters_include_or_exclude_their_bounds_as_in_aws(store):
    for name, created in (("alpha", 1.0), ("Beta", 2.0), ("gamma", 3.0)):
        store.create_record("model", model(name, created), {})
    assert names(store, created_before=2.0) == ["alpha"]
    assert names(store, created_after=2.0) == ["gamma", "Beta"]
    assert names(store, name_contains="ET") == ["Beta"]
    assert names(store, name_contains="_") == []
    assert names(store, name_contains="%") == []


@pytest.mark.parametrize("sort", ["Name", "CreationTime"])
@pytest.mark.parametrize("descending", [True, False])
def test_paging_shows_every_record_once_though_others_come_and_go_meanwhile(store, sort, descending):
    names = {f"m{number:02}" for number in range(20)}
    for name in names:
        store.create_record("model", model(name, created=int(name[1:]) % 3), {})
    seen, after = [], None
    for turn in itertools.count():
        page = store.list_records("model", ListQuery(REGION, 3, sort=sort, descending=descending, after=after))
        if not page:
            break
        seen += [record.name for record in page]
        last = page[-1]
        after = (last.name if sort == "Name" else last.created, last.name)
        store.create_record("model", model(f"m{turn:02}x", created=turn % 3), {})
        store.delete_record("model", REGION, page[0].name)
    assert names <= set(seen)
    assert len(seen) == len(set(seen))


def test_a_list_shows_one_region_and_one_kind(store):
    store.create_record("model", model("here"), {})
    store.create_record("model", model("there", region="us-east-1"), {})
    store.create_record("endpoint-config", replace(model("config"), arn="arn:config"), {})
    assert names(store) == ["here"]


# --- endpoints


def test_an_endpoint_is_created_with_its_first_revision(store):
    endpoint = create_endpoint(store, "Ep", created=5.0)
    assert (endpoint.status, endpoint.revision, endpoint.ready_revision) == ("Creating", 1, 0)
    assert (endpoint.created, endpoint.modified, endpoint.config_name) == (5.0, 5.0, "Config")
    assert len(endpoint.uid) == 8
    assert store.endpoint(REGION, "EP") == endpoint
    ((desired, (revision,), _),) = store.changes().endpoints
    assert desired == endpoint
    assert (revision.uid, revision.number) == (endpoint.uid, 1)
    assert (revision.config, revision.models) == (CONFIG, {"m": {"ModelName": "m"}})
    assert store.revision(endpoint.uid, 1) == revision
    assert store.revision(endpoint.uid, 2) is None


def test_an_endpoint_goes_through_every_status(store):
    uid = create_endpoint(store, "ep").uid
    store.mark({uid: Failed(1, "no such image")}, 2.0)
    endpoint = store.endpoint(REGION, "ep")
    assert (endpoint.status, endpoint.failure_reason, endpoint.modified) == ("Failed", "no such image", 2.0)
    store.mark({uid: Ready(1)}, 3.0004)
    endpoint = store.endpoint(REGION, "ep")
    assert (endpoint.status, endpoint.failure_reason, endpoint.modified) == ("InService", "", 3.0)
    deleting = store.mark_deleting(REGION, "EP", 3.5004)
    assert (deleting.status, deleting.modified) == ("Deleting", 3.5)
    assert store.mark_deleting(REGION, "ep", 3.8) == deleting == store.endpoint(REGION, "ep")
    store.mark({uid: Ready(1)}, 4.0)
    store.mark({uid: Failed(1, "late")}, 4.0)
    assert store.endpoint(REGION, "ep") == deleting
    store.remove(uid)
    assert store.endpoint(REGION, "ep") is None
    assert store.changes().endpoints == ()
    assert store.revision(uid, 1) is None


def test_marks_on_a_removed_endpoint_are_ignored(store):
    uid = create_endpoint(store, "ep").uid
    store.remove(uid)
    store.mark({uid: Ready(1)}, 2.0)
    store.mark({uid: Failed(1, "late")}, 2.0)
    store.remove(uid)
    assert store.mark_deleting(REGION, "ep", 5.0) is None
    assert store.changes().endpoints == ()


def test_a_uid_is_never_used_twice(store):
    uids = []
    for _ in range(3):
        uids.append(create_endpoint(store, "ep").uid)
        store.remove(uids[-1])
    assert len(set(uids)) == 3


def test_an_endpoints_name_is_taken_until_it_is_removed(store):
    endpoint = create_endpoint(store, "Ep", new_tags={"a": "1"})
    store.mark_deleting(REGION, "ep", 5.0)
    with pytest.raises(NameTaken):
        create_endpoint(store, "eP")
    store.remove(endpoint.uid)
    create_endpoint(store, "eP")
    assert store.list_tags(endpoint.arn) == {}


def test_changes_hold_every_region_oldest_first(store):
    create_endpoint(store, "b")
    create_endpoint(store, "a", region="us-east-1")
    assert [endpoint.name for endpoint, *_ in store.changes().endpoints] == ["b", "a"]


def test_sql_and_python_fold_the_same_status_from_every_state(store, path):
    states = list(itertools.product([False, True], [1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]))
    for number in range(len(states)):
        create_endpoint(store, f"ep{number}")
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "UPDATE endpoints SET deleting=?, revision=?, ready_revision=?, failed_revision=? WHERE id=?",
            [(*state, number) for number, state in enumerate(states, 1)],
        )
    connection.close()
    everything = store.list_endpoints(ListQuery(REGION, 1000, sort="Status", descending=False))
    assert len(everything) == len(states)
    assert [e.status for e in everything] == sorted(e.status for e in everything)
    for status in {e.status for e in everything}:
        chosen = store.list_endpoints(ListQuery(REGION, 1000, status=status))
        assert {e.name for e in chosen} == {e.name for e in everything if e.status == status}


def test_endpoints_are_filtered_by_the_time_of_their_last_change(store):
    for number in (1, 2, 3):
        store.mark({create_endpoint(store, f"ep{number}").uid: Ready(1)}, float(number))
    listing = ListQuery(REGION, 10, descending=False)
    assert [e.name for e in store.list_endpoints(replace(listing, modified_after=2.0))] == ["ep3"]
    assert [e.name for e in store.list_endpoints(replace(listing, modified_before=2.0))] == ["ep1"]


def change(store, endpoint, share=False, config=None, expected=None):
    return store.update_endpoint(
        endpoint.uid,
        expected_revision=expected or endpoint.revision,
        share_fleet=share,
        config=config or {**CONFIG, "EndpointConfigName": "Other"},
        models={"m": {"ModelName": "m"}},
        deployment=None,
        now=7.0,
    )


def test_an_update_is_a_revision_with_a_fleet_of_its_own_and_is_shown_once_it_is_ready(store):
    endpoint = create_endpoint(store, "ep")
    store.mark({endpoint.uid: Ready(1)}, 2.0)
    updating = change(store, endpoint)
    assert (updating.status, updating.revision, updating.config_name) == ("Updating", 2, "Config")
    ((_, revisions, _),) = store.changes().endpoints
    assert [(revision.number, revision.fleet) for revision in revisions] == [(1, 1), (2, 2)]
    store.mark({endpoint.uid: Ready(2)}, 8.0)
    updated = store.endpoint(REGION, "ep")
    assert (updated.status, updated.config_name, updated.modified) == ("InService", "Other", 8.0)
    ((_, revisions, _),) = store.changes().endpoints
    assert [revision.number for revision in revisions] == [2]


def test_a_change_of_weights_shares_the_fleet_that_serves_also_after_a_failed_update(store):
    endpoint = create_endpoint(store, "ep")
    store.mark({endpoint.uid: Ready(1)}, 2.0)
    change(store, endpoint)
    store.mark({endpoint.uid: Failed(2, "no such image")}, 3.0)
    failed = store.endpoint(REGION, "ep")
    assert (failed.status, failed.failure_reason, failed.config_name) == ("InService", "no such image", "Config")
    shared = change(store, failed, share=True, config=CONFIG)
    assert store.revision(shared.uid, 3).fleet == 1
    store.mark({endpoint.uid: Ready(3)}, 4.0)
    assert store.endpoint(REGION, "ep").failure_reason == ""
    change(store, shared)
    assert store.revision(shared.uid, 4).fleet == 4


def test_unused_revisions_are_deleted(store):
    uid = create_endpoint(store, "ep").uid
    store.mark({uid: Ready(1)}, 1.0)
    shares = [True, True, False, False, True, True, True]
    for number, share in enumerate(shares, 2):
        change(store, store.endpoint(REGION, "ep"), share=share)
        if number != 5:
            store.mark({uid: Ready(number)}, float(number))
        else:
            store.mark({uid: Failed(number, "why")}, 5.0)
        kept = [earlier for earlier in range(1, number + 1) if store.revision(uid, earlier)]
        assert {number, number - 1 if number != 6 else 4} <= set(kept)
        assert len(kept) <= 4
    assert kept == [4, 7, 8], "the last two, and the one whose fleet they use"


def test_only_an_endpoint_in_service_is_changed_and_only_from_the_revision_that_the_caller_has_read(store):
    endpoint = create_endpoint(store, "ep")
    with pytest.raises(NotInService):
        change(store, endpoint)
    store.mark({endpoint.uid: Ready(1)}, 2.0)
    change(store, endpoint)
    with pytest.raises(NotInService):
        change(store, endpoint, expected=2)
    store.mark({endpoint.uid: Ready(2)}, 3.0)
    with pytest.raises(NotInService):
        change(store, endpoint)
    store.mark_deleting(REGION, "ep", 5.0)
    with pytest.raises(NotInService):
        change(store, endpoint, expected=2)
    store.remove(endpoint.uid)
    with pytest.raises(NotInService):
        change(store, endpoint, expected=2)


# --- tags


def test_tags_are_merged_listed_by_key_and_deleted(store):
    store.create_record("model", model("m"), {"b": "1", "a": "1"})
    arn = model("m").arn
    assert store.add_tags(arn, {"b": "2", "c": ""}, 3) == {"a": "1", "b": "2", "c": ""}
    with pytest.raises(TooManyTags):
        store.add_tags(arn, {"a": "9", "d": "1"}, 3)
    store.delete_tags(arn, ["b", "unknown"])
    assert list(store.list_tags(arn).items()) == [("a", "1"), ("c", "")]


def test_a_missing_resource_has_no_tags(store):
    for call in (lambda: store.add_tags("arn:x", {}, 1), lambda: store.list_tags("arn:x")):
        with pytest.raises(ResourceNotFound):
            call()
    with pytest.raises(ResourceNotFound):
        store.delete_tags("arn:x", ["a"])


# --- the file


def test_an_acknowledged_change_is_there_after_reopening(store, path):
    store.create_record("model", model("m"), {"a": "1"})
    endpoint = create_endpoint(store, "ep")
    other = Store(path)  # while the first is still open, as after a crash
    assert other.record("model", REGION, "m") == model("m")
    assert other.endpoint(REGION, "ep") == endpoint
    other.close()


def test_an_acknowledged_change_survives_a_kill(path):
    program = """if True:
        import itertools, pathlib, sys
        from hostler.store.records import Record
        from hostler.store.store import Store
        store = Store(pathlib.Path(sys.argv[1]))
        for number in itertools.count():
            store.create_record("model", Record("r", f"m{number}", f"arn:m{number}", 1.0, {}), {"a": "1"})
            print(number, flush=True)
    """
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [int(next(process.stdout)) for _ in range(30)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    reopened = Store(path)
    for number in acknowledged:
        assert reopened.list_tags(f"arn:m{number}") == {"a": "1"}
    reopened.close()


def test_commits_are_synced_to_the_disk(store):
    with store.database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1


def test_a_file_of_version_1_is_upgraded(path):
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            ALTER TABLE endpoints DROP COLUMN failed_revision;
            ALTER TABLE revisions DROP COLUMN fleet;
            ALTER TABLE revisions DROP COLUMN deployment;
            ALTER TABLE revisions DROP COLUMN asked;
            INSERT INTO endpoints VALUES
              (1, 'r', 'good', 'good', 'arn:1', 1.5, 2, '{"DeploymentConfig": {"a": 1}}', 'c', 1, 0, 1, ''),
              (2, 'r', 'bad', 'bad', 'arn:2', 1, 1, '{}', 'c', 1, 0, 0, 'no such image');
            INSERT INTO revisions VALUES (1, 1, '{}', '{}'), (2, 1, '{}', '{}');
            PRAGMA user_version = 1;
            """
        )
    connection.close()
    store = Store(path)
    assert [store.endpoint("r", name).status for name in ("good", "bad")] == ["InService", "Failed"]
    upgraded = [revision for _, (revision,), _ in store.changes().endpoints]
    assert [(revision.fleet, revision.deployment, revision.requested) for revision in upgraded] == [
        (1, {"a": 1}, 1.5),
        (1, None, 1),
    ]
    store.close()


def test_a_file_of_a_newer_hostler_is_refused_in_one_line_and_not_changed(path):
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="newer hostler") as refused:
        Store(path)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database, though it is long enough to look like one" * 100, None])
def test_a_file_that_is_no_state_is_refused_in_one_line(path, content):
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be used") as refused:
        Store(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("together", [True, False], ids=["one store", "a store each"])
def test_exactly_one_of_several_racing_creates_of_one_name_wins(store, path, together):
    callers = 8
    barrier, results = threading.Barrier(callers), []

    def create(number):
        own = store if together else Store(path)
        barrier.wait(10)
        try:
            create_endpoint(own, "ep" if number % 2 else "EP", new_tags={"who": str(number)})
            results.append(number)
        except NameTaken:
            results.append(None)
        if own is not store:
            own.close()

    threads = [threading.Thread(target=create, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (winner,) = [number for number in results if number is not None]
    assert len(results) == callers
    assert len(store.changes().endpoints) == 1
    assert store.list_tags(f"arn:{REGION}:endpoint/ep") == {"who": str(winner)}


# --- what has changed


def changed(store, since):
    """What has changed since a change: the endpoints' names, the uids of the removed ones, and the last number."""
    changes = store.changes(since)
    return [stored.record.name for stored in changes.endpoints], changes.removed, changes.number


def test_a_reader_sees_each_change_once(store):
    uid = create_endpoint(store, "a").uid
    other = create_endpoint(store, "b")
    names, removed, number = changed(store, None)
    assert (names, removed) == (["a", "b"], frozenset())
    assert changed(store, number) == ([], frozenset(), number)
    store.mark({uid: Ready(1)}, 2.0)
    assert changed(store, number)[0] == ["a"]
    number = changed(store, number)[2]
    assert changed(store, number) == ([], frozenset(), number)
    store.mark({other.uid: Failed(1, "no")}, 2.0)
    store.mark_deleting(REGION, "a", 3.0)
    names, _, number = changed(store, number)
    assert names == ["a", "b"]
    store.remove(uid)
    names, removed, number = changed(store, number)
    assert (names, removed) == ([], {uid})
    assert changed(store, number) == ([], frozenset(), number)


def test_an_update_and_tags_are_changes_of_their_endpoint_alone(store):
    endpoint = create_endpoint(store, "a")
    create_endpoint(store, "b")
    store.mark({endpoint.uid: Ready(1)}, 2.0)
    number = store.changes().number
    change(store, endpoint)
    (stored,) = store.changes(number).endpoints
    assert [revision.number for revision in stored.revisions] == [1, 2]
    number = store.changes().number
    store.add_tags(endpoint.arn, {"k": "v"}, 50)
    (stored,) = store.changes(number).endpoints
    assert stored.tags["k"] == "v"
    number = store.changes().number
    store.delete_tags(endpoint.arn, ["k"])
    (stored,) = store.changes(number).endpoints
    assert "k" not in stored.tags
    number = store.changes().number
    store.create_record("model", model("m"), {"k": "v"})
    assert changed(store, number) == ([], frozenset(), number)


def test_a_refused_change_is_none(store):
    endpoint = create_endpoint(store, "a")
    number = store.changes().number
    with pytest.raises(NotInService):
        change(store, endpoint)
    with pytest.raises(TooManyTags):
        store.add_tags(endpoint.arn, {"k": "v", "l": "w"}, 1)
    assert changed(store, number) == ([], frozenset(), number)


def test_changes_are_counted_on_in_a_file_that_an_earlier_version_wrote(store, path):
    endpoint = create_endpoint(store, "a")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE changes")
    connection.close()
    again = Store(path)
    names, removed, number = changed(again, None)
    assert (names, removed) == (["a"], frozenset())
    again.mark({endpoint.uid: Ready(1)}, 2.0)
    assert changed(again, number)[0] == ["a"]
    again.close()
