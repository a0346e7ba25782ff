package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/workflows"
)

// acceptance is how long to wait for a worker to take an emergency. An Update is durable only then; a Signal is at once.
const acceptance = 5 * time.Second

// Start starts a rotation of reason manual; started is false if one of the key is under way.
func (l Client) Start(ctx context.Context, k rotation.Key, by, why string) (started bool, err error) {
	_, err = Start(ctx, l.Temporal, workflows.Input{Key: k, Reason: rotation.Manual, By: by, Why: why})
	if errors.Is(err, ErrUnderWay) {
		return false, nil
	}
	return err == nil, err
}

// Raise starts an emergency rotation of the key, or joins the one that is under way. Where no worker answers, the same
// decision goes as a Signal, which Temporal keeps; whichever comes second is a repetition.
func (l Client) Raise(ctx context.Context, k rotation.Key, m rotation.DecisionMessage) error {
	in := workflows.Input{Key: k, Reason: rotation.Emergency, By: m.By, Why: m.Why, Emergencies: []rotation.Decision{{DecisionMessage: m}}}
	o := Options(in)
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	o.WorkflowExecutionErrorWhenAlreadyStarted = false
	name := string(rotation.RaiseEmergency)

	_, err := retryUnknown(ctx, func(ctx context.Context, again bool) (struct{}, error) {
		if again {
			// Its rotation may have ended since; the same message would begin another one. That is the lesser evil where it
			// cannot be seen.
			if s, err := l.Latest(ctx, k.Name); err == nil && s.Served(m.ID) {
				return struct{}{}, nil
			}
			_, err := l.Temporal.SignalWithStartWorkflow(ctx, o.ID, name, m, o, workflows.RotateKeyType, in)
			return struct{}{}, err
		}
		limited, cancel := context.WithTimeout(ctx, acceptance)
		defer cancel()
		_, err := l.Temporal.UpdateWithStartWorkflow(limited, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: l.Temporal.NewWithStartWorkflowOperation(o, workflows.RotateKeyType, in),
			UpdateOptions: client.UpdateWorkflowOptions{
				UpdateID: m.ID, WorkflowID: o.ID, UpdateName: name, Args: []any{m}, WaitForStage: client.WorkflowUpdateStageAccepted,
			},
		})
		if err != nil && !errors.As(err, new(*temporal.ApplicationError)) {
			err = fmt.Errorf("%w (%w)", ErrUnknown, err) // whatever it is, a signal may pass
		}
		return struct{}{}, err
	})
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return fmt.Errorf("the rotation of %s does not take the emergency: %s", k.Name, app.Message())
	} else if errors.Is(err, ErrUnknown) {
		return fmt.Errorf("whether the rotation of %s knows of the emergency is not known. %s. %w", k.Name, lookFirst(k.Name), err)
	} else if err != nil {
		return fmt.Errorf("the emergency of %s could not be sent: %w", k.Name, err)
	}
	return nil
}

// Latest tells how the latest rotation of the key stands. An Internal fault: Temporal has answered, but what it keeps of
// this rotation makes no sense, so that nothing is known of this key; any other error says nothing about the key.
func (l Client) Latest(ctx context.Context, key string) (rotation.LatestRotation, error) {
	d, err := l.Temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return rotation.LatestRotation{}, nil
	} else if _, ok := errors.AsType[*serviceerror.DataLoss](err); ok {
		return rotation.LatestRotation{}, unreadable(key, "data_loss")
	} else if err != nil {
		return rotation.LatestRotation{}, fmt.Errorf("how the rotation of %s stands cannot be read: %w", key, err)
	}
	info := d.GetWorkflowExecutionInfo()
	s := rotation.LatestRotation{Known: true, Running: info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}
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

// unreadable drops the text of the decoder, which may quote what it could not decode.
func unreadable(key, code string) error {
	return fault.New(fault.Internal, code, "read how the rotation of "+key+" stands")
}
