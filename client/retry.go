package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
)

// A request that Temporal does not answer may have been carried out: a database that executes a write and then reports a
// timeout is enough. Whoever takes that for a failure starts a second rotation, or tells a person at night that nothing
// has begun. So no answer is no failure here: what was asked for is looked for, the request is repeated under the same id,
// and only then somebody is told.

// patience is how long a request without an answer is repeated.
const patience = 30 * time.Second

// A burst of requests is sent a few at a time: all at once they would hold each other up until the patience of each is over,
// although Temporal could have answered every one of them in turn. How long one waits for its turn does not count.
const (
	maxStarts = 64
	// maxUpdates is how many wait for a worker at once.
	maxUpdates = 32
)

var starts, updates = semaphore.NewWeighted(maxStarts), semaphore.NewWeighted(maxUpdates)

// queue waits for a request's turn. Whoever gets an error has sent nothing.
func queue(ctx context.Context) (done func(), err error) {
	if err := starts.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { starts.Release(1) }, nil
}

// unanswered reports whether an error leaves open whether the request was carried out.
func unanswered(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		return true
	}
	var said serviceerror.ServiceError
	if !errors.As(err, &said) {
		return errors.As(err, new(*sdkclient.WorkflowUpdateServiceTimeoutOrCanceledError))
	}
	if errors.As(err, new(*serviceerror.WorkflowNotReady)) {
		return true // its workflow task has just failed, and is tried again
	}
	switch said.Status().Code() {
	case codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// retryUnknown repeats a request until there is an answer. ask is told whether an earlier try was not answered, so that it looks
// first. An answer that refuses is returned as it is; where there is none to the end, the error is ErrUnknown.
func retryUnknown[T any](ctx context.Context, ask func(ctx context.Context, again bool) (T, error)) (T, error) {
	again := false
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 3*time.Second
	out, err := backoff.Retry(ctx, func() (T, error) {
		out, err := ask(ctx, again)
		if err != nil && !unanswered(err) {
			return out, backoff.Permanent(err)
		}
		again = true
		return out, err
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(patience))
	if err != nil && unanswered(err) && !errors.Is(err, ErrUnknown) {
		err = fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	return out, err
}

// start starts a workflow, once. token names the request: it is kept in the workflow's memo, by which the run is known again.
func (c *Client) start(ctx context.Context, o sdkclient.StartWorkflowOptions, token string, workflow, in any) (sdkclient.WorkflowRun, error) {
	o.Memo = map[string]any{tokenMemo: token}
	done, err := queue(ctx)
	if err != nil {
		return nil, fmt.Errorf("nothing was sent: %w", err)
	}
	defer done()
	return retryUnknown(ctx, func(ctx context.Context, again bool) (sdkclient.WorkflowRun, error) {
		if again {
			if run, err := c.startedBy(ctx, o.ID, token); run != nil || err != nil {
				return run, err
			}
		}
		run, err := c.temporal.ExecuteWorkflow(ctx, o, workflow, in)
		if errors.As(err, new(*serviceerror.WorkflowExecutionAlreadyStarted)) {
			// It may be the run of a request before this one, whose answer was lost.
			switch own, lookError := c.latestBy(ctx, o.ID, token); {
			case own != nil:
				return own, nil
			case lookError != nil && again:
				return nil, lookError
			}
		}
		if err != nil {
			return nil, err // and no run that is nil in an interface
		}
		return run, nil
	})
}

// latestBy returns the latest run of a workflow if a request has started it; nil if not.
func (c *Client) latestBy(ctx context.Context, id, token string) (sdkclient.WorkflowRun, error) {
	d, err := c.temporal.DescribeWorkflowExecution(ctx, id, "")
	if errors.As(err, new(*serviceerror.NotFound)) {
		return nil, nil //nolint:nilnil // it is the answer: there is none
	} else if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if tokenOf(info) != token {
		return nil, nil //nolint:nilnil // as above
	}
	return c.temporal.GetWorkflow(ctx, id, info.GetExecution().GetRunId()), nil
}

// startedBy returns the run of a workflow that a request has started; nil if Temporal knows of none. One that another one
// has followed is found in a list, which lags by a second.
func (c *Client) startedBy(ctx context.Context, id, token string) (sdkclient.WorkflowRun, error) {
	if run, err := c.latestBy(ctx, id, token); run != nil || err != nil {
		return run, err
	}
	own := ""
	if err := c.list(ctx, fmt.Sprintf("WorkflowId = '%s'", id), func(info *workflowpb.WorkflowExecutionInfo) bool {
		if tokenOf(info) == token {
			own = info.GetExecution().GetRunId()
		}
		return own == ""
	}); err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	if own == "" {
		return nil, nil //nolint:nilnil // as above
	}
	return c.temporal.GetWorkflow(ctx, id, own), nil
}

// lookFirst is what a person does who does not know whether a rotation was started, or has taken a message.
func lookFirst(key string) string { return "Look before you ask again: rekey status " + key }

// notStarted is the error of a rotation that was not started, or of which nobody knows.
func notStarted(key string, err error) error {
	switch {
	case errors.As(err, new(*serviceerror.WorkflowExecutionAlreadyStarted)):
		return fmt.Errorf("%s: %w", key, ErrRunning)
	case errors.Is(err, ErrUnknown):
		return fmt.Errorf("it is not known whether the rotation of %s has begun. %s. %w", key, lookFirst(key), err)
	}
	return fmt.Errorf("the rotation of %s could not be started: %w", key, err)
}
