// Package mutants breaks the code on purpose, one place at a time, and looks whether a test notices. A breakage that nobody
// notices is a test to write, or changes nothing that anybody could see.
//
// go-gremlins was looked at first: it changes operators and conditions only, and tests in a copy of the tree. What breaks an
// invariant is more often a call that is not made. Here the syntax tree is changed, and Go's -overlay compiles it in place of
// the file, which stays as it is.
package mutants
