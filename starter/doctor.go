package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
)

// checkResult is how one check of doctor went.
type checkResult struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (a *app) doctor() *cobra.Command {
	var notify bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Temporal, the workers, and every provider and store; changes nothing",
		Long: `Checks everything that a rotation needs: Temporal and its search attributes; a worker on every task queue; for each key,
what the first step of a rotation looks at; the listener for triggers, if there is one; and the channels that notify
people: their secrets, and whether somebody listens there. --notify sends a test message to each channel. Providers and
stores are asked from here, with this machine's credentials; the worker may have others.`,
		Example: `  rekey doctor
  rekey doctor --notify
  rekey doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			checks := a.examineTemporal(cmd.Context(), cfg)
			checks = append(checks, examineKeys(cmd.Context(), cfg)...)
			checks = append(checks, examineTriggers(cmd.Context(), cfg)...)
			checks = append(checks, examineChannels(cmd.Context(), cfg, notify)...)
			var b strings.Builder
			bad := 0
			for _, f := range checks {
				mark := "ok  "
				if !f.OK {
					mark, bad = "FAIL", bad+1
				}
				fmt.Fprintf(&b, "%s  %-32s %s\n", mark, f.What, f.Detail)
			}
			if err := a.print(map[string]any{"checks": checks, "healthy": bad == 0}, strings.TrimRight(b.String(), "\n")); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks failed", bad, len(checks))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&notify, "notify", false, "send a test message to every channel")
	return cmd
}

func (a *app) examineTemporal(ctx context.Context, cfg *config.Config) []checkResult {
	c, namespace, err := a.dial(ctx)
	if err != nil {
		return []checkResult{{"Temporal", false, err.Error()}}
	}
	defer c.Close()
	all := []checkResult{{"Temporal", true, "answers, namespace " + namespace}}
	switch missing, err := engine.MissingSearchAttributes(ctx, c, namespace); {
	case err != nil:
		all = append(all, checkResult{"search attributes", false, err.Error()})
	case len(missing) > 0:
		all = append(all, checkResult{"search attributes", false, "missing; run: " + engine.CreateCommand(namespace, missing)})
	default:
		all = append(all, checkResult{"search attributes", true, "registered"})
	}
	all = append(all, examineQueue(ctx, c, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW))
	for _, name := range slices.Sorted(maps.Keys(cfg.Providers)) {
		all = append(all, examineQueue(ctx, c, workflows.ProviderTaskQueue(name), enumspb.TASK_QUEUE_TYPE_WORKFLOW))
	}
	return all
}

// examineQueue asks whether a worker polls a task queue.
func examineQueue(ctx context.Context, c client.Client, queue string, kind enumspb.TaskQueueType) checkResult {
	d, err := c.DescribeTaskQueue(ctx, queue, kind)
	switch {
	case err != nil:
		return checkResult{"task queue " + queue, false, "Temporal does not say: " + err.Error()}
	case len(d.GetPollers()) == 0:
		return checkResult{"task queue " + queue, false, "no worker polls it. Start one: rekey-worker --config …"}
	}
	return checkResult{"task queue " + queue, true, fmt.Sprintf("%d worker(s)", len(d.GetPollers()))}
}

// examineKeys runs the first step of a rotation for every key: it looks at everything and changes nothing.
func examineKeys(ctx context.Context, cfg *config.Config) []checkResult {
	acts, err := adapters.Look(ctx, cfg)
	if err != nil {
		return []checkResult{{"providers and stores", false, err.Error()}}
	}
	var all []checkResult
	for _, k := range cfg.Keys {
		all = append(all, examineKey(ctx, acts, k))
	}
	return all
}

func examineKey(ctx context.Context, acts *activities.Environment, k rotation.Key) checkResult {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := acts.Prepare(ctx, activities.PrepareInput{
		Target: activities.Target{Key: k, Rotation: "doctor"}, Reason: rotation.Scheduled, StartedAt: time.Now(),
	})
	var f *fault.Error
	switch what := "key " + k.Name; {
	case errors.As(err, &f):
		return checkResult{what, false, f.Error()}
	case err != nil:
		return checkResult{what, false, "cannot be examined"}
	case p.Question != nil:
		return checkResult{what, false, p.Question.Text}
	case p.OldRefused:
		return checkResult{what, false, p.Verdict.Message}
	default:
		return checkResult{what, true, p.Verdict.Message}
	}
}

// examineTriggers looks whether the worker's listener for triggers can be reached, and its secrets be read, from here.
func examineTriggers(ctx context.Context, cfg *config.Config) []checkResult {
	t := cfg.Triggers
	if t == nil {
		return nil
	}
	all := []checkResult{{"triggers, secrets", true, fmt.Sprintf("%d source(s)", len(t.Sources))}}
	if err := triggers.Check(*t); err != nil {
		all[0] = checkResult{"triggers, secrets", false, err.Error()}
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", t.Listen)
	if err != nil {
		return append(all, checkResult{"triggers, listener", false, "nothing listens on " + t.Listen + " as seen from here. Is a worker running on this machine?"})
	}
	_ = c.Close()
	return append(all, checkResult{"triggers, listener", true, "listens on " + t.Listen})
}
