"""The error that ends a script with a message and the exit code of one of sutor's error codes."""


class PrepareError(Exception):
    """code: 336 for E0336; its hundreds are the exit code. where: "rows.jsonl:12" or ""."""

    def __init__(self, code, message, where=""):
        super().__init__(message)
        self.code = code
        self.where = where

    def __reduce__(self):
        return PrepareError, (self.code, str(self), self.where)

    def exit_code(self):
        return self.code // 100

    def report(self):
        start = f"{self.where}: " if self.where else ""
        return f"{start}error[E{self.code:04}]: {self}"
