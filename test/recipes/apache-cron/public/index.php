<?php
// An app in place of yours. /?slow takes half a second.
if ($_SERVER["QUERY_STRING"] === "slow") {
    error_log("slow");
    usleep(500000);
}
echo "hello\n";
