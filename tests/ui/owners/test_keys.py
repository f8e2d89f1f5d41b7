"""The Keys tab without a browser: keys are created, changed and revoked; a secret is shown once and nowhere else."""

from datetime import timedelta
from typing import Any

import pytest

from models.database import Database, utcnow
from models.keys import KeyLimits, check_key, create_key, find_key, list_keys
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from models.usage import Slot, Sums, add_usage
from tests.ui.conftest import filled, stand_in
from ui.backend.context import PageContext
from ui.look.components import show_confirmation
from ui.owners.keys.tab import KeysTab, KeysView

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def tab(settings: Settings, database: Database) -> KeysTab:
    upstream = Upstream(base_url="https://x/v1", model="m")
    Registry(database).register(ModelSpec(id="support", kind="hosted", upstream=upstream))
    Registry(database).alias("bot", "support")
    return KeysTab(PageContext(settings, database), stand_in(KeysView, limits=4))


async def saved(tab: KeysTab, name: str = "shop", role: str = "client", **form: Any) -> dict[Any, Any]:
    defaults: dict[str, Any] = {"which": "", "models": [], "ends": "", "limits": ("",) * 4, "period": 7, "by": "key"}
    return await tab.save(filled(tab._view, **defaults | {"name": name, "role": role} | form))


def secret_in(html: str) -> str:
    return html.partition("<code>")[2].partition("</code>")[0]


@pytest.mark.long
async def test_the_first_key_must_be_an_owner_key(tab: KeysTab, database: Database) -> None:
    view = tab._view
    empty = await tab.refresh("", 7, "key")
    assert "Create an owner’s key first" in empty[view.table]
    assert (empty[view.role]["value"], empty[view.role]["interactive"]) == ("owner", False)
    refused = await saved(tab, role="client")
    assert "owner’s key first. Without one" in refused[view.line]
    assert list_keys(database) == []
    made = await saved(tab, "boss", "owner")
    key = check_key(database, secret_in(made[view.made]))
    assert key is not None
    assert (key.name, key.role) == ("boss", "owner")
    assert "/login" in made[view.made]


@pytest.mark.long
async def test_a_key_is_created_from_the_form_and_shown_once(tab: KeysTab, database: Database) -> None:
    view = tab._view
    create_key(database, name="boss", role="owner")
    made = await saved(
        tab, " shop ", models=["bot", "support"], ends="30d", limits=("60", "20,000", "2 000 000", "$2.5")
    )
    secret = secret_in(made[view.made])
    key = check_key(database, secret)
    assert key is not None
    assert (key.name, key.models) == ("shop", ("bot", "support"))
    assert key.limits == KeyLimits(60, 20_000, 2_000_000, 2.5)
    assert key.expires is not None
    assert timedelta(days=29) < key.expires - utcnow() < timedelta(days=31)
    assert "2,000,000 tokens/day" in made[view.table]
    elsewhere = [text for part, text in made.items() if part is not view.made]
    assert secret not in str(elsewhere)
    assert secret not in str(await tab.refresh("", 7, "key"))
    assert secret not in str(await tab.choose(key.id))


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"name": ""}, "name has"),
        ({"limits": ("many", "", "", "")}, "Requests per minute"),
        ({"limits": ("0", "", "", "")}, "above 0"),
        ({"limits": ("", "1.5", "", "")}, "use a number"),
        ({"ends": "soon"}, "The expiry is"),
        ({"models": ["nobody"]}, "no model"),
        ({"role": "owner", "models": ["bot"]}, "may use every model"),
        ({"name": "boss"}, "already an active key"),
    ],
)
async def test_a_mistake_is_a_line_and_creates_no_key(
    tab: KeysTab, database: Database, form: dict, message: str
) -> None:
    create_key(database, name="boss", role="owner")
    refused = await saved(tab, **form)
    assert message in refused[tab._view.line]
    assert refused[tab._view.made] == ""
    assert len(list_keys(database)) == 1


@pytest.mark.long
async def test_a_key_is_chosen_changed_and_revoked(tab: KeysTab, database: Database) -> None:
    view = tab._view
    create_key(database, name="boss", role="owner")
    create_key(
        database, name="shop", role="client", models=["bot"], limits=KeyLimits(daily_tokens=50_000),
        expires=utcnow() + timedelta(days=3),
    )  # fmt: skip
    key = find_key(database, "shop")
    form = await tab.choose(key.id)
    assert (form[view.name]["value"], form[view.name]["interactive"]) == ("shop", False)
    assert (form[view.models]["value"], form[view.limits[2]], form[view.save]["value"]) == (["bot"], "50,000", "Save")
    limits = ("", "", "75,000", "")
    said = await saved(tab, which=key.id, models=["bot", "support"], ends=form[view.ends], limits=limits)
    assert "Saved shop" in said[view.line]
    changed = find_key(database, "shop")
    assert (changed.models, changed.limits) == (("bot", "support"), KeyLimits(daily_tokens=75_000))
    assert changed.expires == key.expires, "an unchanged day keeps its hour"
    assert show_confirmation(view.revoke, view.sure, True)[view.sure]["visible"] is True
    after = await tab.revoke(key.id, 7, "key")
    assert "revoked" in after[view.table]
    assert [value for _, value in after[view.which]["choices"]] == ["", find_key(database, "boss").id]


@pytest.mark.long
async def test_a_scope_whose_model_no_longer_exists_is_shown_and_kept(tab: KeysTab, database: Database) -> None:
    """The browser drops a value that is not an option: the field looked empty, which means all models."""
    view = tab._view
    create_key(database, name="boss", role="owner")
    create_key(database, name="shop", role="client", models=["bot"])
    Registry(database).unalias("bot")
    key = find_key(database, "shop")
    form = await tab.choose(key.id)
    assert form[view.models]["value"] == ["bot"]
    assert form[view.models]["choices"] == ["support", "bot"]
    assert "bot" in (await tab.refresh(key.id, 7, "key"))[view.models]["choices"]
    said = await saved(tab, which=key.id, models=form[view.models]["value"], limits=("", "", "", "3"))
    assert "Saved shop" in said[view.line]
    assert find_key(database, "shop").models == ("bot",)
    assert "bot" not in (await tab.choose(""))[view.models]["choices"]


@pytest.mark.long
async def test_usage_is_shown_by_key_and_model_with_a_plot(tab: KeysTab, database: Database) -> None:
    view, today = tab._view, utcnow().date()
    create_key(database, name="shop", role="client")
    shop = find_key(database, "shop").id
    assert "No usage in this period" in (await tab.show_usage(7, "key"))[view.usage]
    add_usage(
        database,
        {
            Slot(today, shop, "support"): Sums(1_234, 5, 6_000, 789, 0.5),
            Slot(today - timedelta(days=2), "", EVIL): Sums(1, 0, 10, 10),
            Slot(today - timedelta(days=20), shop, "support"): Sums(1_000, 0, 0, 0),
        },
    )
    shown = await tab.show_usage(7, "key")
    for words in ("shop", "1,234", "6,000", "789", "$0.5000", "no key"):
        assert words in shown[view.usage]
    assert EVIL not in shown[view.usage]
    figure = shown[view.plot]["value"]
    assert [(bar.name, sum(bar.y)) for bar in figure.data] == [("shop", 6_789), ("no key", 20)]
    assert len(figure.data[0].x) == 7
    by_model = (await tab.show_usage(7, "model"))[view.plot]["value"]
    assert [bar.name for bar in by_model.data] == ["support", EVIL]
    assert "2,234" in (await tab.show_usage(30, "key"))[view.usage]


@pytest.mark.long
async def test_the_smallest_keys_share_one_series(tab: KeysTab, database: Database) -> None:
    today = utcnow().date()
    add_usage(database, {Slot(today, f"key{number}", "m"): Sums(1, 0, 1 + number, 0) for number in range(9)})
    figure = (await tab.show_usage(7, "key"))[tab._view.plot]["value"]
    assert [bar.name for bar in figure.data] == [*(f"key{number}" for number in range(8, 2, -1)), "all others"]
    assert sum(figure.data[-1].y) == 1 + 2 + 3
