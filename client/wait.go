package client

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
)

// pollSlice is how long Wait listens before it asks anew.
const pollSlice = 3 * time.Second

// Wait waits for a workflow's end and reads its result into result, a pointer or nil; its errors are those of
// client.WorkflowRun.Get. An empty run is the one that is the latest now. It follows a run that is continued as new, and
// no other one that comes after.
//
// It asks again every few seconds: a Temporal server may lose the event that ends a long poll, and whoever listens on
// hears of it as late as the poll expires, though the workflow has long ended.
func Wait(ctx context.Context, c client.Client, workflowID, run string, result any) error {
	if run == "" {
		// Asked anew, the latest may be another one.
		d, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
		if err != nil {
			return fmt.Errorf("the end of %s cannot be waited for: %w", workflowID, err)
		}
		run = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	}
	// It remembers how far it has followed.
	w := c.GetWorkflow(ctx, workflowID, run)
	for {
		err, again := listen(ctx, w, result)
		if !again {
			return err
		}
	}
}

// listen waits for the end for a slice of time; again says that it has not come.
func listen(ctx context.Context, w client.WorkflowRun, result any) (err error, again bool) { //nolint:revive // again qualifies err
	// No deadline: the server would answer shortly before it, and be asked again with no time left.
	slice, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(pollSlice, cancel)
	defer timer.Stop()
	err = w.Get(slice, result)
	return err, err != nil && slice.Err() != nil && ctx.Err() == nil
}
