package workflows

import (
	"go.temporal.io/sdk/workflow"
)

// provenOrigin refuses a workflow that begins in the middle and does not go on from a run of its own. A made-up state could
// begin at a revoke, and what was decided before could be made up as well. In the second run of a cron workflow, and of one
// that Temporal retries, the start's input looks like what a run hands to its next one: both are refused whatever the input
// is.
func provenOrigin(ctx workflow.Context, what string, inTheMiddle bool) error {
	info := workflow.GetInfo(ctx)
	switch {
	case info.CronSchedule != "":
		return rejected("%s is not started by a cron schedule: nothing was done. Terminate this workflow, and let rekey make a schedule: rekey apply", what)
	case info.RetryPolicy != nil || info.Attempt > 1:
		return rejected("%s is not started with a retry policy: nothing was done. Start it without one: it retries what can be", what)
	case inTheMiddle && info.ContinuedExecutionRunID == "":
		return rejected("%s cannot be started in the middle: leave resume and carry out", what)
	}
	return nil
}
