"""Drivers, one package a technology."""
