<?php
// In place of Laravel's: POST takes a job, /slow takes half a second.
if ($_SERVER["REQUEST_METHOD"] === "POST") {
    file_put_contents(getenv("QUEUE") . "/" . uniqid(), file_get_contents("php://input"));
}
if ($_SERVER["REQUEST_URI"] === "/slow") {
    error_log("slow");
    usleep(500000);
}
echo "hello\n";
