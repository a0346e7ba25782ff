// Package keyyears lets unchanged rotations run for years of virtual time on the real Temporal server: the timers of their
// workflows are skipped, and the clocks of activities and of the simulated cloud follow.
package keyyears
