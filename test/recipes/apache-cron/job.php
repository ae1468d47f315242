<?php
echo "did the job\n";
