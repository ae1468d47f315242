<?php
// The same for PHP.
if ($_SERVER["REQUEST_URI"] === "/slow") {
    file_put_contents($_SERVER["ARRIVED"], ".", FILE_APPEND);
    $end = microtime(true) + 1.2; // a signal cuts a sleep short
    while (microtime(true) < $end) {
        usleep(50000);
    }
}
echo "done";
