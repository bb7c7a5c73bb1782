"""The two addresses: one that is loaded, and one whose quotas are small."""

from django.urls import path

from .choice import FEW, PLENTY, chosen
from .views import make_view

urlpatterns = [
    path("", make_view(chosen(), "plenty", PLENTY)),
    path("denied", make_view(chosen(), "few", FEW)),
]
