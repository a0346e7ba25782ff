// Package virtual runs unchanged rotations in virtual time on the real Temporal server: the timers of their workflows are
// skipped, and the clocks of the activities and of the simulated cloud follow. A week of grace takes less than a second.
package virtual
