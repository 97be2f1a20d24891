from monai.data import DataLoader

from monai_lighter.check.targets import accepted_by


class Base:
    def __init__(self, a, b=1):
        pass


class Passing(Base):
    def __init__(self, c, **others):
        others["b"] = others.get("b", 2)
        super().__init__(**others)


class Again(Passing):
    def __init__(self, d=1, **kwargs):
        super().__init__(**kwargs)


class Taking(Base):
    def __init__(self, c, **kwargs):
        self.extra = kwargs.pop("extra", None)
        super().__init__(**kwargs)


class Keeping(Base):
    def __init__(self, **kwargs):
        self.settings = kwargs


class Made:
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, a):
        pass


def test_what_is_passed_on_to_bases_counts():
    assert accepted_by(Base) == (["a", "b"], ["a"], False)
    assert accepted_by(Passing) == (["c", "a", "b"], ["c"], False)
    assert accepted_by(Again) == (["d", "c", "a", "b"], [], False)
    assert "num_workers" in accepted_by(DataLoader).names
    assert not accepted_by(DataLoader).is_open
    assert accepted_by(Made) == (["a"], [], False)


def test_what_may_go_elsewhere_is_open():
    assert accepted_by(Taking) == (["c"], ["c"], True)
    assert accepted_by(Keeping) == ([], [], True)
    assert accepted_by(lambda a, **kwargs: a) == (["a"], ["a"], True)
    assert accepted_by(dict) is None
