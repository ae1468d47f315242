echo warm
