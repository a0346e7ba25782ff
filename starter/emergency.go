package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// emergencyFlags are what a person says about an emergency.
type emergencyFlags struct {
	provider, tier, store, why, by, leaked, grace, resume string
	all, revokeFirst, yes, detach                         bool
	concurrency                                           int
}

func (a *app) emergency() *cobra.Command {
	var o emergencyFlags
	cmd := &cobra.Command{
		Use:   "emergency [KEY…]",
		Short: "Replace leaked keys now: one, all of a provider, a tier or a store, or all",
		Long: `Rotates the keys now, most exposed first, without guard and without grace unless --grace says so. A rotation that is
running joins in. A key is done when every value that leaked is refused; without --leaked that is every value made
before now. Nothing goes back to a leaked key.

It shows what will happen and asks you to type the number of keys. Then it shows the progress of each key, and at the
end a table: how long it took until applications could read the new key, how long until the old one was refused, and
what there is to do. Keys that only a person can make or revoke wait for that person, and say so; the command stays until
they are done too.

The emergency itself runs in Temporal. Ctrl-C, or the death of this command or of a worker, does not stop it; watch it
again with --resume. docs/incident.md is the runbook.

Exit code 0 only if every key is done, 1 if one failed or you stopped watching, 2 for bad input, 3 if you did not
confirm.`,
		Example: `  rekey emergency openai-prod --why "was in a public repository"
  rekey emergency ci --leaked 0a1b2c3d4e5f --why "fingerprint in a build log"
  rekey emergency --provider google --why "laptop stolen" --concurrency 100
  rekey emergency --store gsm --revoke-first --why "store was read by a stranger"
  rekey emergency --resume k3jq5w7a`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.resume != "" {
				return a.resumeEmergency(cmd, args, o.resume)
			}
			return a.raiseEmergency(cmd.Context(), args, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.provider, "provider", "", "all keys of this provider")
	f.StringVar(&o.tier, "tier", "", "all keys of this tier; with --provider only those of both")
	f.StringVar(&o.store, "store", "", "all keys in this store; with --provider and --tier only those of all")
	f.BoolVar(&o.all, "all", false, "every key of the file")
	f.StringVar(&o.why, "why", "", "why; kept with every rotation (needed)")
	f.StringVar(&o.leaked, "leaked", "all", "what leaked: fingerprints, provider's ids or version numbers, with commas between them; or all, which is every value made before now. A number means that version in every store; <store>:<number> means one store's. Names go with one key only")
	f.BoolVar(&o.revokeFirst, "revoke-first", false, "take the leaked key away before there is a new one: applications fail until there is")
	f.StringVar(&o.grace, "grace", "", "how long the leaked key may still work beside the new one, like 10m (default not at all)")
	f.IntVar(&o.concurrency, "concurrency", workflows.FleetConcurrency, "how many rotations run at once")
	f.StringVar(&o.by, "by", currentUser(), "who raises it; recorded as a claim")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.detach, "detach", false, "start it and do not watch")
	f.StringVar(&o.resume, "resume", "", "watch the emergency of this `ID` again; starts nothing")
	return cmd
}

func (a *app) raiseEmergency(ctx context.Context, args []string, o emergencyFlags) error {
	if a.json && !o.yes {
		return badInput("--json cannot ask; add --yes")
	}
	m, err := o.message()
	if err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	keys, err := a.exposed(cfg, args, o)
	if err != nil {
		return err
	}
	if len(m.Leaked) > 0 && len(keys) != 1 {
		return badInput("--leaked names values of one key, and these are %d keys; leave it out to replace every value made before now", len(keys))
	}
	if len(keys) > workflows.MaxFleet {
		return badInput("these are %d keys, and one emergency takes %d; raise one for each --tier, or for each --provider", len(keys), workflows.MaxFleet)
	}
	if o.concurrency < 1 {
		return badInput("--concurrency is at least 1")
	}
	c, _, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	missing := missingWorkers(ctx, c, keys)
	if !a.json {
		fmt.Fprint(a.out, outlookOf(keys, m, o, missing))
	} else if len(missing) > 0 {
		fmt.Fprintln(a.errOut, "rekey: "+noWorker(missing))
	}
	if !o.yes && !a.confirmEmergency(len(keys), o.revokeFirst) {
		return refused("nothing was started")
	}
	in := workflows.EmergencyInput{ID: emergencyID(), Message: m, Concurrency: o.concurrency}
	for _, k := range keys {
		in.Keys = append(in.Keys, k.Name)
	}
	if err := client.New(c).StartEmergency(ctx, in); err != nil {
		return err
	}
	if o.detach {
		return a.print(map[string]any{"id": in.ID, "workflow_id": workflows.EmergencyID(in.ID), "keys": len(in.Keys)},
			fmt.Sprintf("Emergency %s started. To watch it: rekey emergency --resume %s", in.ID, in.ID))
	}
	return a.watchEmergency(ctx, c, in.ID)
}

func (a *app) resumeEmergency(cmd *cobra.Command, args []string, id string) error {
	for _, name := range []string{"provider", "tier", "store", "all", "why", "leaked", "revoke-first", "grace", "concurrency", "detach"} {
		if len(args) > 0 || cmd.Flags().Changed(name) {
			return badInput("--resume watches an emergency as it is: no keys and no --%s with it", name)
		}
	}
	c, _, err := a.dial(cmd.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	return a.watchEmergency(cmd.Context(), c, id)
}

// valueName is what can name a value that leaked: a fingerprint, a provider's id, a version number, also one of a single
// store.
var valueName = regexp.MustCompile(`^([A-Za-z0-9._-]{1,64}:([A-Za-z0-9._/-]{1,256}:)?)?[A-Za-z0-9._-]{1,64}$`)

// message is what each rotation is told.
func (o emergencyFlags) message() (rotation.DecisionMessage, error) {
	m := rotation.DecisionMessage{By: o.by, Why: o.why, RevokeFirst: o.revokeFirst}
	if o.why == "" {
		return m, badInput("say why with --why: it is kept with every rotation")
	}
	if o.grace != "" {
		d, err := rotation.ParseDuration(o.grace)
		if err != nil {
			return m, badInput("--grace %q is not a valid duration; expected one like 10m or 2h", o.grace)
		}
		if m.For = d; d > 0 && o.revokeFirst {
			return m, badInput("--grace keeps the leaked key and --revoke-first takes it away at once; choose one")
		}
	}
	if o.leaked != "all" {
		for name := range strings.SplitSeq(o.leaked, ",") {
			if name = strings.TrimSpace(name); !valueName.MatchString(name) || rotation.LooksLikeKey(name) {
				// It is not repeated here: it may be the key.
				return m, badInput("--leaked takes fingerprints, provider's ids or version numbers, with commas between them, or all; never the key itself. Nothing was sent. A fingerprint is the first 12 digits of: printf %%s \"$KEY\" | sha256sum")
			}
			m.Leaked = append(m.Leaked, strings.TrimSpace(name))
		}
	}
	if err := (rotation.DecisionContext{}).Check(rotation.RaiseEmergency, m); err != nil {
		return m, badInput("%s", err)
	}
	return m, nil
}

// exposed are the keys that a person means, most exposed first.
func (a *app) exposed(cfg *config.Config, names []string, o emergencyFlags) ([]rotation.Key, error) {
	ways := 0
	for _, said := range []bool{len(names) > 0, o.all, o.provider+o.tier+o.store != ""} {
		if said {
			ways++
		}
	}
	if ways != 1 {
		return nil, badInput("say which keys: their names, or --provider, --tier and --store, or --all; and only one of the three")
	}
	if _, known := cfg.Providers[o.provider]; o.provider != "" && !known {
		return nil, badInput("%s has no provider %q", a.configFile, o.provider)
	}
	if _, known := cfg.Stores[o.store]; o.store != "" && !known {
		return nil, badInput("%s has no store %q", a.configFile, o.store)
	}
	if o.tier != "" && !rotation.Tier(o.tier).Valid() {
		return nil, badInput("there is no tier %q; there are %v", o.tier, rotation.Tiers())
	}
	keys := slices.Clone(cfg.Keys)
	if len(names) > 0 {
		var err error
		if keys, err = a.choose(cfg, slices.Compact(slices.Sorted(slices.Values(names)))); err != nil {
			return nil, err
		}
	}
	keys = slices.DeleteFunc(keys, func(k rotation.Key) bool {
		inStore := slices.ContainsFunc(k.Stores, func(l rotation.Location) bool { return l.Store == o.store })
		return o.provider != "" && k.Provider != o.provider || o.tier != "" && k.Tier != rotation.Tier(o.tier) || o.store != "" && !inStore
	})
	if len(keys) == 0 {
		return nil, badInput("%s has no such key", a.configFile)
	}
	slices.SortStableFunc(keys, func(x, y rotation.Key) int {
		if d := slices.Index(rotation.Tiers(), x.Tier) - slices.Index(rotation.Tiers(), y.Tier); d != 0 {
			return d
		}
		return strings.Compare(x.Name, y.Name)
	})
	return keys, nil
}

// missingWorkers names the task queues of an emergency that nobody works on.
func missingWorkers(ctx context.Context, c sdkclient.Client, keys []rotation.Key) []string {
	queues := []string{workflows.TaskQueue}
	for _, k := range keys {
		if q := workflows.ProviderTaskQueue(k.Provider); !slices.Contains(queues, q) {
			queues = append(queues, q)
		}
	}
	return slices.DeleteFunc(queues, func(q string) bool {
		d, err := c.DescribeTaskQueue(ctx, q, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
		return err != nil || len(d.GetPollers()) > 0
	})
}

func noWorker(missing []string) string {
	return "no worker polls " + strings.Join(missing, ", ") + ": the emergency is kept and begins there when one does. Start one: rekey-worker --config rekey.yaml"
}

// shownKeys is how many keys are named before the question.
const shownKeys = 20

// outlookOf says what will happen.
func outlookOf(keys []rotation.Key, m rotation.DecisionMessage, o emergencyFlags, missing []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "EMERGENCY over %d key(s), most exposed first, %d at once:\n", len(keys), o.concurrency)
	for i, k := range keys {
		if i == shownKeys {
			fmt.Fprintf(&b, "  and %d more\n", len(keys)-i)
			break
		}
		fmt.Fprintf(&b, "  %-40s %-13s %s, %s\n", k.Name, k.Tier, k.Provider, k.Account)
	}
	what := "every value made before now"
	if len(m.Leaked) > 0 {
		what = strings.Join(m.Leaked, ", ")
	}
	fmt.Fprintf(&b, "\nWhat leaked: %s.\n", what)
	switch {
	case m.RevokeFirst:
		b.WriteString("The leaked key is revoked first, then a new one is made and published.\n")
	case m.For > 0:
		fmt.Fprintf(&b, "A new key is made and published; the leaked one keeps working for %s, then it is revoked.\n", m.For)
	default:
		b.WriteString("A new key is made and published; the leaked one is revoked as soon as applications can read the new one.\nAn application that reads its key only when it starts fails until it is restarted.\n")
	}
	b.WriteString("Rotations that are running join in. There is no way back to a leaked key.\n")
	if len(missing) > 0 {
		b.WriteString("\nWARNING: " + noWorker(missing) + "\n")
	}
	if m.RevokeFirst {
		b.WriteString("\nWARNING: with --revoke-first these applications FAIL from the revoke until their new key is there: seconds where\nrekey makes the key, as long as it takes where a person does.\n")
	}
	return b.String()
}

// confirmEmergency asks for the number of keys, and before an outage once more.
func (a *app) confirmEmergency(keys int, outage bool) bool {
	in := bufio.NewReader(a.in)
	asks := func(question, want string) bool {
		fmt.Fprint(a.out, question)
		answer, err := in.ReadString('\n')
		return (err == nil || errors.Is(err, io.EOF)) && strings.TrimSpace(answer) == want
	}
	if !asks(fmt.Sprintf("\nType the number of keys (%d) to continue: ", keys), fmt.Sprint(keys)) {
		return false
	}
	return !outage || asks("Type revoke-first if applications may fail: ", "revoke-first")
}

// emergencyID is eight characters that no other emergency has.
func emergencyID() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // it never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
