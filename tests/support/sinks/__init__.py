"""Sinks: every way of foreign text into a widget, and the program that feeds them all."""
