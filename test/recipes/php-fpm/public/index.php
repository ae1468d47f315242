<?php
// In place of Laravel's: POST takes a job, /slow takes half a second.
if ($_SERVER["REQUEST_METHOD"] === "POST") {
    $new = getenv("QUEUE") . "/.new";
    file_put_contents($new, file_get_contents("php://input"));
    rename($new, getenv("QUEUE") . "/" . uniqid()); // the worker reads whole jobs
}
if ($_SERVER["REQUEST_URI"] === "/slow") {
    error_log("slow");
    usleep(500000);
}
echo "hello\n";
