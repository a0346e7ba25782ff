package client

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Waiting is a rotation that waits for a person, as Temporal lists it: no worker is asked.
type Waiting struct {
	Key      string          `json:"key"`
	Provider string          `json:"provider"`
	Tier     rotation.Tier   `json:"tier,omitempty"`
	Phase    rotation.Phase  `json:"phase"`
	Reason   rotation.Reason `json:"reason"`
	// StartedAt is when the rotation began, Deadline when its present wait ends or has ended.
	StartedAt time.Time `json:"startedAt"`
	Deadline  time.Time `json:"deadline,omitzero"`
}

// waitingQuery lists rotations that wait for a person: in a phase for it, or in a step that does not get on and has a
// deadline because of that.
var waitingQuery = fmt.Sprintf("WorkflowType = '"+workflows.RotateKeyType+"' AND ExecutionStatus = 'Running' AND (%[1]s IN (%[2]s) OR %[3]s IS NOT NULL)",
	workflows.PhaseAttribute.GetName(), waitingPhases(), workflows.DeadlineAttribute.GetName())

func waitingPhases() string {
	var quoted []string
	for _, p := range rotation.Phases() {
		if p.Waiting() {
			quoted = append(quoted, "'"+string(p)+"'")
		}
	}
	return strings.Join(quoted, ", ")
}

// Inbox lists all rotations that wait for a person, the one whose time is up first at the top. It needs no worker.
// Temporal's list lags by about a second. Reading changes nothing, so after any error it may be asked again.
func (c *Client) Inbox(ctx context.Context) ([]Waiting, error) {
	all := []Waiting{}
	err := c.list(ctx, waitingQuery, func(info *workflowpb.WorkflowExecutionInfo) bool {
		key, ok := workflows.KeyOfID(info.GetExecution().GetWorkflowId())
		if !ok {
			return true
		}
		attributes := info.GetSearchAttributes().GetIndexedFields()
		text := func(k interface{ GetName() string }) (s string) {
			// A missing or odd one is shown as empty.
			_ = converter.GetDefaultDataConverter().FromPayload(attributes[k.GetName()], &s)
			return s
		}
		w := Waiting{
			Key: key, Provider: text(workflows.ProviderAttribute), Tier: rotation.Tier(text(workflows.TierAttribute)),
			Phase: rotation.Phase(text(workflows.PhaseAttribute)), Reason: rotation.Reason(text(workflows.ReasonAttribute)), StartedAt: info.GetStartTime().AsTime(),
		}
		_ = converter.GetDefaultDataConverter().FromPayload(attributes[workflows.DeadlineAttribute.GetName()], &w.Deadline)
		all = append(all, w)
		return true
	})
	slices.SortStableFunc(all, func(a, b Waiting) int {
		return cmp.Or(compareDeadlines(a.Deadline, b.Deadline), a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Key, b.Key))
	})
	return all, err
}

// compareDeadlines puts those without a deadline last.
func compareDeadlines(a, b time.Time) int {
	switch {
	case a.IsZero() || b.IsZero():
		return b.Compare(a)
	default:
		return a.Compare(b)
	}
}

// maxClosed is how many closed rotations FollowUps looks at.
const maxClosed = 2000

// FollowUps lists the results that left something for a person, newest first: of each key the latest rotation that
// Temporal remembers, if it did. all is false if there were more rotations than it looks at. It needs no worker, and lags
// as Inbox does.
func (c *Client) FollowUps(ctx context.Context) (results []rotation.Result, all bool, err error) {
	seen, n := map[string]bool{}, 0
	err = c.list(ctx, "WorkflowType = '"+workflows.RotateKeyType+"' AND ExecutionStatus != 'Running'", func(info *workflowpb.WorkflowExecutionInfo) bool {
		key, ok := workflows.KeyOfID(info.GetExecution().GetWorkflowId())
		if ok && !seen[key] {
			r, err := result(info)
			if err != nil || r == nil {
				return true // terminated: the next rotation takes it up
			}
			// A look that found nothing to do says nothing about what the one before has left.
			if seen[key] = !r.NotDue || r.Unknown; len(r.FollowUps) > 0 {
				results = append(results, *r)
			}
		}
		n++
		return n < maxClosed
	})
	return results, n < maxClosed, err
}

// list passes what a query finds to each, until that is enough.
func (c *Client) list(ctx context.Context, query string, each func(*workflowpb.WorkflowExecutionInfo) (more bool)) error {
	var page []byte
	for {
		r, err := c.temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, NextPageToken: page, PageSize: 500})
		if _, bad := err.(*serviceerror.InvalidArgument); bad { //nolint:errorlint // the client does not wrap it
			return fmt.Errorf("the namespace lacks rekey's search attributes (rekey doctor): %w", err)
		} else if err != nil {
			return fmt.Errorf("Temporal does not list the rotations: %w", err)
		}
		for _, info := range r.GetExecutions() {
			if !each(info) {
				return nil
			}
		}
		if page = r.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}
