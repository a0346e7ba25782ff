package lockstep_test

import (
	"testing"

	"github.com/rekeyhq/rekey/internal/lockstep"
)

// BenchmarkTask measures a workflow task that brings an activity's result and a signal.
func BenchmarkTask(b *testing.B) {
	for name, between := range map[string]func(*lockstep.Run){
		"cached": func(*lockstep.Run) {}, "replayed": (*lockstep.Run).DropCache, "two workers": (*lockstep.Run).OtherWorker,
	} {
		b.Run(name, func(b *testing.B) {
			f := lockstep.New(b, register, lockstep.Options{})
			// Thirty tasks make one run, about as many as a rotation has.
			activities := make([]string, 29)
			for i := range activities {
				activities[i] = "a"
			}
			b.ResetTimer()
			for tasks := 0; tasks < b.N; {
				run := f.Start("diary", lockstep.StartOptions{}, activities)
				run.MustTask()
				for range activities {
					between(run)
					run.Signal("note", "n")
					run.CompleteActivity(run.Activity("a").ID, "done")
					run.MustTask()
				}
				run.Signal("end")
				run.MustTask()
				tasks += 31
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
