// Package pagetest has the page of package admin used in a real Chromium, in
// front of a real gateway under load. It is a module of its own, so that what
// drives the browser is no dependency of mcpool.
//
// Screenshots go to the folder that MCPOOL_SCREENSHOTS names. The tests need
// Debian's chromium, and axe-core in testdata/node; they are skipped without.
package pagetest
