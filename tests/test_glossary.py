"""Numbers of evaluations, explained in a line."""

from jaxgen import glossary


def test_each_line_is_short_and_says_which_way_is_better():
    for name, says in glossary.SAYS.items():
        assert len(f"{name}: {says}") <= 110, name
        assert "\n" not in says
        ways = ("higher", "lower", "below", "near 0", "compare", "few")
        assert any(way in says for way in ways), name


def test_names_of_networks_and_of_held_out_data():
    assert glossary.meaning("lpips_alex") == glossary.SAYS["lpips"]
    assert glossary.meaning("fd_random_vgg19") == glossary.SAYS["fd"]
    assert glossary.meaning("held_out_whole").startswith(glossary.SAYS["whole"])
    assert glossary.meaning("kd_random_vgg19_std") == glossary.meaning("odd") == ""
    assert glossary.explain(["gain_y", "odd", "gain_y"]) == [f"gain_y: {glossary.SAYS['gain_y']}"]
