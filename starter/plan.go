package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/starter/schedules"
	"github.com/rekeyhq/rekey/worker/adapters"
)

func (a *app) plan() *cobra.Command {
	var offline, check bool
	cmd := &cobra.Command{
		Use:   "plan [KEY…]",
		Short: "Show what apply would change, and what will become of each key; changes nothing",
		Long: `Compares rekey.yaml with the schedules in Temporal: what is created, changed, paused or deleted. It also says for each
key when it is due, when it will be rotated, what a rotation touches, and what is revoked when. For that it asks
providers and stores from here, with this machine's credentials; --offline leaves them alone.`,
		Example: `  rekey plan
  rekey plan openai-prod --offline
  rekey plan --check --json            for a pipeline: exit code 3 if there is something to change`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := a.makePlan(cmd.Context(), args, !offline)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := a.print(p, p.text(len(args) > 0)); err != nil {
				return err
			}
			if n := p.plan.Applies() + p.plan.Count(schedules.Delete, schedules.Blocked); check && n > 0 {
				return refused("%d schedule(s) are not as %s wants them", n, a.configFile)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "read schedules only; do not ask providers and stores")
	cmd.Flags().BoolVar(&check, "check", false, "end with exit code 3 if there is something to change")
	return cmd
}

// planned is a plan with what will become of each key.
type planned struct {
	Install   string       `json:"install"`
	Namespace string       `json:"namespace"`
	Keys      []plannedKey `json:"keys"`
	// Summary counts the keys by action.
	Summary map[schedules.Action]int `json:"summary"`
	// Applied: what had to be changed was changed.
	Applied bool `json:"applied"`
	// Problem says why providers and stores could not be asked.
	Problem string `json:"problem,omitempty"`

	plan      schedules.Plan
	schedules *schedules.Client
}

type plannedKey struct {
	schedules.KeyPlan
	schedules.Forecast `json:"forecast,omitzero"`

	key rotation.Key
}

// makePlan compares rekey.yaml, or the named keys of it, with what Temporal has. The caller closes the client.
func (a *app) makePlan(ctx context.Context, names []string, look bool) (_ sdkclient.Client, p planned, err error) {
	cfg, err := a.config()
	if err != nil {
		return nil, p, err
	}
	keys, err := a.choose(cfg, names)
	if err != nil {
		return nil, p, err
	}
	c, namespace, err := a.dial(ctx)
	if err != nil {
		return nil, p, err
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	p = planned{Install: cfg.Install, Namespace: namespace, schedules: &schedules.Client{Temporal: c, Namespace: namespace, Install: cfg.Install}}
	ids := make([]string, len(keys))
	desired := make([]schedules.Desired, len(keys))
	for i, k := range keys {
		ids[i], desired[i] = k.Name, schedules.Desired{Key: k, Paused: cfg.Paused[k.Name]}
	}
	if len(names) == 0 {
		others, err := p.schedules.Others(ctx, ids)
		if err != nil {
			return c, p, err
		}
		ids = append(ids, others...)
	}
	p.schedules.Progress = a.bar("reading schedules")
	actual, err := p.schedules.Read(ctx, ids)
	if err != nil {
		return c, p, err
	}
	if p.plan, err = schedules.NewPlan(cfg.Install, desired, actual, time.Now()); err != nil {
		return c, p, err
	}
	return c, p, a.forecast(ctx, cfg, c, keys, look, &p)
}

// choose returns the named keys of the file, or all.
func (a *app) choose(cfg *config.Config, names []string) ([]rotation.Key, error) {
	if len(names) == 0 {
		return cfg.Keys, nil
	}
	var keys []rotation.Key
	for _, n := range names {
		_, k, err := a.key(n)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// forecast fills in what will become of each key.
func (a *app) forecast(ctx context.Context, cfg *config.Config, c sdkclient.Client, keys []rotation.Key, look bool, p *planned) error {
	var acts *activities.Environment
	if look {
		var err error
		if acts, err = adapters.Look(ctx, cfg); err != nil {
			p.Problem = "Providers and stores were not asked: " + err.Error()
		}
	}
	p.Keys = make([]plannedKey, len(p.plan.Keys))
	err := schedules.Each(ctx, len(p.plan.Keys), a.bar("checking keys"), func(ctx context.Context, i int) error {
		step := p.plan.Keys[i]
		p.Keys[i] = plannedKey{KeyPlan: step}
		if i >= len(keys) {
			return nil
		}
		_, underWay, err := client.New(c).Running(ctx, keys[i].Name)
		if err != nil {
			return err
		}
		due, problem := ask(ctx, acts, keys[i])
		o := p.plan.Forecast(step, due, underWay)
		if problem != "" {
			o.Notes = append(o.Notes, problem)
		}
		p.Keys[i].key, p.Keys[i].Forecast = keys[i], o
		return nil
	})
	p.Summary = map[schedules.Action]int{}
	for _, s := range p.plan.Keys {
		p.Summary[s.Action]++
	}
	return err
}

// ask looks at provider and stores of one key; nil if acts is.
func ask(ctx context.Context, acts *activities.Environment, k rotation.Key) (due *activities.Dueness, problem string) {
	if acts == nil {
		return nil, ""
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	d, err := acts.Due(ctx, activities.DueInput{Key: k, AnyTime: true})
	var f *fault.Error
	switch {
	case errors.As(err, &f):
		return nil, "cannot be examined from here: " + f.Error()
	case err != nil:
		return nil, "cannot be examined from here"
	}
	return &d, ""
}

// text is the plan for people. Keys that stay as they are get one line each, unless all of it is wanted.
func (p planned) text(all bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Install %s, Temporal namespace %s\n\n", p.Install, p.Namespace)
	for _, k := range p.Keys {
		k.write(&b, all)
	}
	if len(p.Keys) == 0 {
		b.WriteString("rekey.yaml names no keys, and no schedule of this install exists.\n")
	}
	if p.plan.Count(schedules.Delete) > 0 {
		b.WriteString("\nKeys with a - are not in rekey.yaml any more. Their schedules go on until `rekey prune`; the keys themselves stay.\n")
	}
	if p.Problem != "" {
		fmt.Fprintf(&b, "\n%s\n", p.Problem)
	}
	var parts []string
	for _, s := range []struct {
		action schedules.Action
		text   string
	}{
		{schedules.Create, "%d to create"}, {schedules.Update, "%d to change"}, {schedules.Pause, "%d to pause"}, {schedules.Unpause, "%d to unpause"},
		{schedules.Delete, "%d to delete with `rekey prune`"}, {schedules.Blocked, "%d not ours, left alone"},
	} {
		if n := p.plan.Count(s.action); n > 0 {
			parts = append(parts, fmt.Sprintf(s.text, n))
		}
	}
	if len(parts) == 0 {
		parts = []string{"nothing to change"}
	}
	fmt.Fprintf(&b, "\nPlan: %s; %d unchanged.", strings.Join(parts, ", "), p.plan.Count(schedules.Unchanged))
	return b.String()
}

var marks = map[schedules.Action]string{
	schedules.Create: "+", schedules.Update: "~", schedules.Pause: "~", schedules.Unpause: "~", schedules.Delete: "-", schedules.Blocked: "!", schedules.Unchanged: "=",
}

func (k plannedKey) write(b *strings.Builder, all bool) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(b, "      %-9s %s\n", label, text)
		}
	}
	notes := append(slices.Clone(k.KeyPlan.Notes), k.Forecast.Notes...)
	if k.Action == schedules.Unchanged && !all && len(notes) == 0 && k.Missed == (schedules.Missed{}) {
		fmt.Fprintf(b, "  = %-24s unchanged%s\n", k.KeyPlan.Key, prefixed("; rotates at ", k.at(k.RotatesAt)))
		return
	}
	fmt.Fprintf(b, "  %s %-24s %s\n", marks[k.Action], k.Key, k.Action)
	for _, c := range k.Changes {
		line("change", fmt.Sprintf("%s: %s → %s", c.Setting, orNone(c.From), orNone(c.To)))
	}
	if k.Action == schedules.Create || all {
		line("window", k.key.Policy.Window.String())
	}
	switch {
	case len(k.Beats) > 0:
		line("next beat", k.at(k.Beats[0]))
	case k.Paused:
		line("next beat", "none while it is paused")
	}
	switch {
	case k.DueAt.After(time.Now()):
		line("due", k.at(k.DueAt))
	case k.Why != "":
		line("due", k.Why)
	}
	line("rotates", k.at(k.RotatesAt))
	if k.Action != schedules.Unchanged || all {
		line("touches", strings.Join(k.Touches, ", "))
		line("revokes", strings.Join(k.Revokes, ", ")+prefixed(" at about ", k.at(k.RevokesAt)))
		line("by hand", strings.Join(k.ByHand, ", "))
		line("apart", prefixed("not while one of these rotates: ", strings.Join(k.key.ConflictsWith, ", ")))
	}
	if n := k.Missed.Beats(); n > 0 {
		line("missed", fmt.Sprintf("%d beats since the schedule was made: %s", n, k.Missed))
	}
	for _, n := range notes {
		line("note", n)
	}
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// at is a moment by the clocks of the key's window.
func (k plannedKey) at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	zone, err := k.key.Policy.Window.Location()
	if err != nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04:05 MST")
}
