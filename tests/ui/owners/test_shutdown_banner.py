"""ui/owners/shutdown_banner.py: the owners' banner about shutdowns."""

from datetime import date

from models.spec import ModelSpec, Upstream
from ui.owners.shutdown_banner import shutdown_banner

TODAY = date(2026, 12, 1)


def hosted(name: str, day: date | None) -> ModelSpec:
    upstream = Upstream(base_url="https://example.test/v1", model="m")
    return ModelSpec(id=name, kind="hosted", upstream=upstream, shutdown_date=day)


def test_no_banner_without_upcoming_shutdowns() -> None:
    assert shutdown_banner([hosted("a", None), hosted("b", date(2028, 1, 1))], TODAY) == ""


def test_the_first_to_go_comes_first_and_decides_how_loud_it_is() -> None:
    near = shutdown_banner([hosted("ft:gpt-4o:o:s:1", date(2027, 1, 14))], TODAY)
    assert "notice warn" in near
    assert "<code>ft:gpt-4o:o:s:1</code> is off in 44 days (2027-01-14)" in near
    many = [hosted(f"m{n}", date(2027, 1, n + 1)) for n in range(5)] + [hosted("gone", date(2026, 11, 1))]
    urgent = shutdown_banner(many, TODAY)
    assert "notice bad" in urgent
    assert urgent.index("gone") < urgent.index("m0")
    assert "and 3 more" in urgent
