package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/workflows"
)

// answerTime is how long a worker has to answer a query.
const answerTime = 10 * time.Second

// Status asks the latest rotation of a key about itself, also one that has ended: its phase, what a person is asked to do,
// and which decisions it would take now. It asks a worker.
//
// ErrNotFound: there is no rotation. ErrNoWorker: no worker answered within ten seconds. Reading changes nothing, so after
// any error it may be asked again.
func (c *Client) Status(ctx context.Context, key string) (rotation.Status, error) {
	return c.status(ctx, key, "")
}

func (c *Client) status(ctx context.Context, key, run string) (s rotation.Status, err error) {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	v, err := c.temporal.QueryWorkflow(limited, workflows.ID(key), run, workflows.StatusQuery)
	if err == nil {
		err = v.Get(&s)
	}
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, new(*serviceerror.NotFound)):
		return s, fmt.Errorf("no rotation of %s: %w", key, ErrNotFound)
	case ctx.Err() == nil && noWorker(limited, err):
		return s, fmt.Errorf("the rotation of %s: %w (%w)", key, ErrNoWorker, err)
	}
	return s, fmt.Errorf("the rotation of %s does not answer: %w", key, err)
}

// noWorker reports whether a query was not answered because no worker works on it. Temporal waits for one, or knows that
// none has been seen lately.
func noWorker(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.As(err, new(*serviceerror.DeadlineExceeded)) || errors.As(err, new(*serviceerror.FailedPrecondition))
}

// Result reads how the latest rotation of a key ended; ended is false while it runs. It needs no worker. One that was
// terminated from outside has ended too: then the phase is no phase of a rotation ("terminated") and the outcome says
// what to do.
//
// ErrNotFound: there is no rotation. Reading changes nothing, so after any error it may be asked again.
func (c *Client) Result(ctx context.Context, key string) (res rotation.Result, ended bool, err error) {
	info, err := c.describe(ctx, key, "")
	if err != nil || running(info) {
		return res, false, err
	}
	res, err = endOf(info, key)
	return res, true, err
}

// Running says since when a rotation of the key has been running. The zero time: longer than Temporal remembers. It reads
// Temporal's own state, which does not lag, and needs no worker.
func (c *Client) Running(ctx context.Context, key string) (since time.Time, runs bool, err error) {
	info, err := c.describe(ctx, key, "")
	if errors.Is(err, ErrNotFound) || err == nil && !running(info) {
		return since, false, nil
	} else if err != nil {
		return since, false, err
	}
	if first := info.GetFirstRunId(); first != "" && first != info.GetExecution().GetRunId() {
		// It was continued as new, or reset: its first run began before this one.
		info, err = c.describe(ctx, key, first)
		if errors.Is(err, ErrNotFound) {
			return time.Time{}, true, nil
		} else if err != nil {
			return since, false, err
		}
	}
	return info.GetStartTime().AsTime(), true, nil
}

// Latest says how the latest rotation of the key stands, as Temporal keeps it: it does not lag and needs no worker. That
// there is none is no error. An Internal fault: Temporal has answered, but what it keeps of this rotation makes no sense,
// so that nothing is known of this key; any other error says nothing about the key, and passes.
func (c *Client) Latest(ctx context.Context, key string) (rotation.LatestRotation, error) {
	info, err := c.describe(ctx, key, "")
	if errors.Is(err, ErrNotFound) {
		return rotation.LatestRotation{}, nil
	} else if errors.As(err, new(*serviceerror.DataLoss)) {
		return rotation.LatestRotation{}, unreadable(key, "data_loss")
	} else if err != nil {
		return rotation.LatestRotation{}, err
	}
	s := rotation.LatestRotation{Known: true, Running: running(info)}
	decode := converter.GetDefaultDataConverter().FromPayload
	for name, to := range map[string]any{workflows.PhaseAttribute.GetName(): &s.Phase, workflows.ReasonAttribute.GetName(): &s.Reason} {
		if p := info.GetSearchAttributes().GetIndexedFields()[name]; p != nil && decode(p, to) != nil {
			return s, unreadable(key, "search_attribute")
		}
	}
	if !s.Running {
		if s.Result, err = result(info); err != nil {
			return s, unreadable(key, "memo")
		}
	}
	return s, nil
}

// describe reads Temporal's own state of a rotation; an empty run is the latest one.
func (c *Client) describe(ctx context.Context, key, run string) (*workflowpb.WorkflowExecutionInfo, error) {
	d, err := c.temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), run)
	if errors.As(err, new(*serviceerror.NotFound)) {
		return nil, fmt.Errorf("no rotation of %s: %w", key, ErrNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("the state of the rotation of %s cannot be read: %w", key, err)
	}
	return d.GetWorkflowExecutionInfo(), nil
}

func running(info *workflowpb.WorkflowExecutionInfo) bool {
	return info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// result reads the result of a closed run from its memo; nil if it was ended from outside. A run that follows another in
// the same workflow takes over its memo: that is no result of its own.
func result(info *workflowpb.WorkflowExecutionInfo) (*rotation.Result, error) {
	p := info.GetMemo().GetFields()[workflows.ResultMemo]
	if p == nil {
		return nil, nil //nolint:nilnil // it is the answer: there is none
	}
	var r rotation.Result
	if err := converter.GetDefaultDataConverter().FromPayload(p, &r); err != nil {
		return nil, fmt.Errorf("the result of %s cannot be read: %w", info.GetExecution().GetWorkflowId(), err)
	}
	if r.EndedAt.Before(info.GetStartTime().AsTime()) {
		return nil, nil //nolint:nilnil // as above
	}
	return &r, nil
}

// endOf says how a closed run ended, also one that was ended from outside.
func endOf(info *workflowpb.WorkflowExecutionInfo, key string) (rotation.Result, error) {
	if r, err := result(info); err != nil {
		return rotation.Result{}, err
	} else if r != nil {
		return *r, nil
	}
	ended := strings.ToLower(info.GetStatus().String())
	return rotation.Result{
		Key: key, Phase: rotation.Phase(ended), EndedAt: info.GetCloseTime().AsTime(),
		Outcome: "It was ended from outside (" + ended + "). To finish what it left: rekey rotate " + key + " --if-due",
	}, nil
}

// unreadable drops the text of the decoder, which may quote what it could not decode.
func unreadable(key, code string) error {
	return fault.New(fault.Internal, code, "read how the rotation of "+key+" stands")
}
