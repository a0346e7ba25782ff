package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/rekeyhq/rekey/workflows"
)

const (
	// patience is for how long, in real time, nothing happens in a rotation before it counts as stuck. Where Temporal's
	// database lies, every twentieth step waits for a timeout; where it was started again, workers take most of a minute to come
	// back.
	patience = 2 * time.Minute
	// endless is how many events are too many: it goes round and round.
	endless = 3000
)

// watched is ctx until the rotation is stuck.
func (a *audited) watched(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		var run string
		var length int64
		for since := time.Now(); time.Since(since) < patience; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			d, err := a.Temporal.DescribeWorkflowExecution(ctx, workflows.ID(a.Key.Name), "")
			if err != nil {
				continue
			}
			info := d.GetWorkflowExecutionInfo()
			if now, n := info.GetExecution().GetRunId(), info.GetHistoryLength(); now != run || n != length {
				run, length, since = now, n, time.Now()
			}
			if length > endless {
				cancel(fmt.Errorf("it goes round and round: %d events", length))
				return
			}
		}
		cancel(fmt.Errorf("nothing has happened for %v", patience))
	}()
	return ctx, func() { cancel(nil) }
}
