import time

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path


def index(request):
    return HttpResponse(f"{User.objects.count()} users, {request.scheme}\n")


def slow(request):
    print("slow\n", end="", flush=True)
    time.sleep(0.5)
    return HttpResponse("hello\n")


urlpatterns = [path("", index), path("slow", slow)]
