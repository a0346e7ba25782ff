// Package auditor judges rotations by what a client can see: what rekey asked of its stores and its provider and what came
// back, what applications read and whether their requests were accepted, and what the official lists show in the end. It
// knows nothing of the simulated cloud and its journal, so that a mistake in one auditor is not one in the other.
//
// Its history is one in the manner of Jepsen: an operation begins and ends, and where its answer was lost the end is open,
// because it may take effect at any time. Judge holds the history against the invariants of the design (I1 to I8), and
// against what a store promises: that every change of a record is a compare-and-set, and that a version never changes.
package auditor
