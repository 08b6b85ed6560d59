import os
import re
import subprocess
import sys

import pytest

from .pages import DOCS, ROOT, pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    strict = ["-W", "--keep-going", "-n"]
    process = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, "-b", "html", str(DOCS), str(out)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return out


def test_every_page_is_there(site):
    sources = [page for page in pages() if page.startswith("docs/")]
    assert len(sources) > 5
    for page in sources:
        html = site / page.removeprefix("docs/").replace(".md", ".html")
        assert "<h1>" in html.read_text(encoding="utf-8"), page


@pytest.mark.parametrize("page", pages())
def test_links_between_pages_work_without_sphinx(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert not re.findall(r"\{(?:doc|ref|func|class)\}`", text)
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)\s]*\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_no_page_loads_anything_from_another_host(site):
    loads = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        assert not loads.findall(page.read_text(encoding="utf-8")), page
    assert (site / "_static" / "tex-svg.js").stat().st_size > 1_000_000
    assert 'src="_static/tex-svg.js' in (site / "tolerance.html").read_text(encoding="utf-8")


def test_pages_have_titles_of_their_own(site):
    titles = [
        re.search(r"<h1>(.*?)<(?:a|/h1)", page.read_text(encoding="utf-8"))[1]
        for page in [*site.glob("*.html"), *site.glob("api/*.html")]
        if "<h1>" in page.read_text(encoding="utf-8")
    ]
    assert len(titles) > 20
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("torch", "innaprop.torch.INNAprop.step"),
        ("keras", "innaprop.keras.INNAprop.update_step"),
        ("tensorflow", "innaprop.tensorflow.INNAprop.apply_gradients"),
        ("optax", "innaprop.optax.innaprop"),
        ("optax", "innaprop.optax.INNApropState.momentum"),
        ("optax", "innaprop.optax.psi"),
        ("plan", "innaprop.plan"),
        ("diagnostics", "innaprop.diagnostics.Diagnostics"),
        ("state", "innaprop.save_state"),
        ("state", "innaprop.portable.ParameterState"),
        ("core", "innaprop_core.INNAprop.step"),
        ("core", "innaprop_core.algorithm.step"),
        ("core", "innaprop_core.momentum.step"),
        ("core", "innaprop_core.trajectory"),
        ("core", "innaprop_core.Hyperparameters"),
        ("core", "innaprop_core.BEST_ACCURACY"),
    ],
)
def test_the_reference_names_it(site, page, name):
    assert f'id="{name}"' in (site / f"api/{page}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "inherited"),
    [("torch", "zero_grad"), ("keras", "apply_gradients"), ("tensorflow", "trainable_variables")],
)
def test_the_reference_leaves_out_what_frameworks_document(site, page, inherited):
    html = (site / f"api/{page}.html").read_text(encoding="utf-8")
    assert f"INNAprop.{inherited}" not in html


@pytest.mark.parametrize("plot", ["step_length", "idle_weight"])
def test_plots_are_drawn(site, plot):
    html = (site / "practice.html").read_text(encoding="utf-8")
    (image,) = re.findall(rf'src="(\S+{plot}\S*\.svg)"', html)
    assert "<svg" in (site / image).read_text(encoding="utf-8")


def test_files_that_pages_name_exist():
    named = {
        path
        for page in pages()
        for path in re.findall(
            r"`((?:tests|docs|benchmarks|adapters|conformance)/[\w/]+\.\w+)`",
            (ROOT / page).read_text(encoding="utf-8"),
        )
    }
    assert "tests/core/test_recurrence.py" in named
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []
