<?php
// Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one.

class OwnError extends Exception {}

function inner(string $text): void
{
    throw new InvalidArgumentException($text);
}

function caused(): void
{
    try {
        inner("the cause");
    } catch (Exception $error) {
        throw new RuntimeException("the effect", 7, $error);
    }
}

function thrice(): void
{
    try {
        caused();
    } catch (Exception $error) {
        throw new OwnError("the end", 0, $error);
    }
}

function shown(string $name, string $front, callable $call, mixed ...$args): void
{
    fwrite(STDERR, "== $name\n");
    try {
        $call(...$args);
    } catch (Throwable $error) {
        fwrite(STDERR, "$front$error\n");
    }
}

$time = "[01-Jan-2026 00:00:00 UTC]";
shown("one", "", "inner", "the cause");
shown("caused", "", "caused");
shown("thrice", "", "thrice");
shown("type", "", "strlen", []);
shown("division", "", fn() => intdiv(1, 0));
shown("lines", "", "inner", "2 fields are wrong\n  name: missing\n  age: no number");
shown("logged by hand", "$time app.ERROR: request failed\n", "caused");
shown("a line with the time", "$time ", "caused");
fwrite(STDERR, "== dies\n");
thrice();
