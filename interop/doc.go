// Package interop proves mcpool against servers that other people wrote: its
// tests run them, in several ways each, and have a pool do to them what
// programs do. It is a module of its own, so that they are no dependency of
// mcpool. README.md has what is proven, and how to run it.
package interop
