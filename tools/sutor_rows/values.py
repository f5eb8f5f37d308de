"""How messages name the kind of a value."""


def kind_of(value):
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list",
             tuple: "a list", bytes: "bytes"}
    return names.get(type(value), "an object")
