package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// pollSlice is how long WaitRun listens before it asks anew.
const pollSlice = 3 * time.Second

// Wait waits until the latest rotation of a key has ended, and says how. That it was rolled back is no error: see the
// Result's Phase. There is no limit but the context's, and rotations take days and may wait for a person.
//
// ErrNotFound: there is no rotation. ErrTerminated: it was terminated from outside. Waiting changes nothing, so after any
// other error it may be waited for again.
func (c *Client) Wait(ctx context.Context, key string) (res rotation.Result, err error) {
	if err := c.WaitRun(ctx, workflows.ID(key), "", &res); err != nil {
		return res, ended(key, err)
	}
	return res, nil
}

// ended is the error of a rotation whose result could not be had.
func ended(key string, err error) error {
	switch {
	case errors.As(err, new(*serviceerror.NotFound)):
		return fmt.Errorf("no rotation of %s: %w", key, ErrNotFound)
	case errors.As(err, new(*temporal.TerminatedError)), errors.As(err, new(*temporal.CanceledError)), errors.As(err, new(*temporal.TimeoutError)):
		return fmt.Errorf("the rotation of %s has no result: %w (%w)", key, ErrTerminated, err)
	}
	return fmt.Errorf("the end of the rotation of %s: %w", key, err)
}

// WaitRun waits for the end of any workflow and reads its result into result, a pointer or nil; its errors are those of
// WorkflowRun.Get. An empty runID is the run that is the latest now. It follows a run that is continued as new, and no
// other one that comes after.
//
// It asks again every few seconds: a Temporal server may lose the event that ends a long poll, and whoever listens on
// hears of it as late as the poll expires, though the workflow has long ended.
func (c *Client) WaitRun(ctx context.Context, workflowID, runID string, result any) error {
	if runID == "" {
		// Asked anew, the latest may be another one.
		d, err := c.temporal.DescribeWorkflowExecution(ctx, workflowID, "")
		if err != nil {
			return fmt.Errorf("the end of %s cannot be waited for: %w", workflowID, err)
		}
		runID = d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	}
	// It remembers how far it has followed.
	w := c.temporal.GetWorkflow(ctx, workflowID, runID)
	for {
		err, again := listen(ctx, w, result)
		if !again {
			return err
		}
	}
}

// listen waits for the end for a slice of time; again says that it has not come.
func listen(ctx context.Context, w sdkclient.WorkflowRun, result any) (err error, again bool) { //nolint:revive // again qualifies err
	// No deadline: the server would answer shortly before it, and be asked again with no time left.
	slice, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(pollSlice, cancel)
	defer timer.Stop()
	err = w.Get(slice, result)
	return err, err != nil && slice.Err() != nil && ctx.Err() == nil
}
