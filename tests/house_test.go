// Package tests holds the tests that look at rekey as a whole.
package tests

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "github.com/rekeyhq/rekey"
	temporal = "go.temporal.io"
)

// topLevel are the rooms of the house. A new one needs a reason, and a line here.
var topLevel = strings.Fields("workflows activities provider store notify rotation secret client keyring worker starter tests internal docs")

// room is a folder and what its packages may import of ours. Patterns: `a` is the package a, `a/...` is a and all below it,
// `self/...` is the folder two levels deep in which the file is. The first room that fits counts.
type room struct {
	folder string
	// is says what belongs into it, for docs/architecture.md.
	is string
	// may is what its packages may import, inTests what its test files may import besides.
	may, inTests string
	temporal     temporalUse
	// standard: nothing but the standard library, test files excepted.
	standard bool
}

// temporalUse says which files of a room may import Temporal.
type temporalUse string

const (
	everywhere temporalUse = "yes"
	testsOnly  temporalUse = "in tests"
	nowhere    temporalUse = "no"
)

// everything but the two programs and the tests, which nobody imports.
const everything = "workflows/... activities/... provider/... store/... notify/... rotation/... secret/... client/... keyring/... internal/..."

// house is the one list of rooms: TestTheArrowsOfTheHouseRunOneWay holds every import against it, and the table in
// docs/architecture.md is made from it.
var house = []room{
	{folder: "secret/...", is: "`secret.Value`: prints as its fingerprint, refuses to be encoded", may: "secret/...", temporal: testsOnly},
	{folder: "rotation/...", is: "the pure domain: key, policy, phase, decision, the rules of due and guard; `fault`, `signed`", may: "rotation/... secret", temporal: testsOnly},
	{folder: "provider/providertest", is: "the conformance suite of providers", may: "provider rotation/... secret internal/simcloud/...", temporal: nowhere},
	{folder: "store/storetest", is: "the conformance suite of stores", may: "store rotation/... secret internal/simcloud/...", temporal: nowhere},
	{folder: "notify/notifytest", is: "the conformance suite of channels", may: "notify rotation/... secret internal/simcloud/...", temporal: nowhere},
	{folder: "provider", is: "what a provider can do", may: "rotation/... secret", temporal: nowhere},
	{folder: "store", is: "what a store can do", may: "rotation/... secret", temporal: nowhere},
	{folder: "notify", is: "what a channel can do", may: "rotation/... secret", temporal: nowhere},
	{folder: "provider/...", is: "one package for each provider", may: "provider self/... rotation/... secret internal/googleapi", inTests: "internal/simcloud/... provider/providertest", temporal: nowhere},
	{folder: "store/...", is: "one package for each store", may: "store self/... rotation/... secret internal/googleapi", inTests: "internal/simcloud/... store/storetest", temporal: nowhere},
	{folder: "notify/...", is: "one package for each kind of channel", may: "notify self/... rotation/... secret internal/hmacsign internal/secretfile", inTests: "internal/simcloud/... notify/notifytest", temporal: nowhere},
	{folder: "activities/...", is: "what workflows ask of the outside world", may: "activities/... provider store notify rotation/... secret", inTests: "provider/... store/... notify/... internal/simcloud/... internal/testlog internal/config worker/adapters", temporal: everywhere},
	{folder: "workflows/replaytest", is: "reads histories and replays them, for tests", may: "workflows", temporal: everywhere},
	{folder: "workflows/details", is: "the operator's page: a pure function of a value", may: "rotation/...", inTests: "internal/markdowntest", temporal: nowhere},
	{folder: "workflows/...", is: "deterministic code: RotateKey, Dispatch, Emergency, Trigger, Notify", may: "workflows/... activities rotation/...", inTests: everything + " worker/adapters", temporal: everywhere},
	{folder: "client/...", is: "the one way into a running rekey", may: "client/... workflows activities rotation/...", inTests: everything + " worker/adapters worker/engine", temporal: everywhere},
	{folder: "keyring/...", is: "what applications import", may: "keyring/...", inTests: "internal/simcloud/... secret", temporal: testsOnly, standard: true},
	{folder: "worker/adapters", is: "opens what rekey.yaml names", may: "internal/config activities worker/engine provider/... store/... notify/... rotation/... secret internal/googleapi", inTests: everything, temporal: nowhere},
	{folder: "worker/engine", is: "registers workflows and activities, and runs them", may: "workflows activities client notify rotation/...", inTests: everything, temporal: everywhere},
	{folder: "worker/triggers", is: "the listener for webhooks", may: "internal/config internal/hmacsign internal/secretfile workflows activities rotation/... secret", inTests: everything, temporal: everywhere},
	{folder: "worker/lambda/...", is: "the rotation function that AWS Secrets Manager calls on its own schedule", may: "worker/lambda/... worker/adapters internal/config internal/keyless client workflows rotation/... store/awssm", inTests: everything, temporal: everywhere},
	{folder: "worker", is: "the program rekey-worker", may: "worker/... client workflows activities internal/...", temporal: everywhere},
	{folder: "starter/schedules", is: "plans, applies and prunes schedules", may: "client workflows activities rotation/...", inTests: everything, temporal: everywhere},
	{folder: "starter", is: "the command rekey", may: "starter/... worker/adapters worker/engine worker/triggers " + everything, temporal: everywhere},
	{folder: "internal/config", is: "parses rekey.yaml and opens nothing", may: "provider/... store/... notify/... rotation/... secret internal/secretsearch internal/keyless", temporal: nowhere},
	{folder: "internal/devserver", is: "Temporal's server and UI, embedded", may: "internal/devserver", temporal: everywhere},
	{folder: "internal/simcloud/scenario", is: "simulators with keys in stores, and the rekey.yaml for them", may: "internal/simcloud/... internal/config provider/... store/... rotation/... secret", temporal: nowhere},
	{folder: "internal/simcloud/...", is: "providers, stores and channels on loopback", may: "internal/simcloud/... provider store rotation/... secret", inTests: "provider/... store/...", temporal: nowhere},
	{folder: "internal/googleapi", is: "what the adapters of Google share", may: "rotation/fault", temporal: nowhere},
	{folder: "internal/hmacsign", is: "signs and checks bodies of webhooks", may: "secret", temporal: nowhere},
	{folder: "internal/secretfile", is: "reads files that hold a secret", may: "secret", temporal: nowhere},
	{folder: "internal/lockstep", is: "drives a workflow one task at a time", may: "internal/lockstep", inTests: "workflows activities rotation/...", temporal: everywhere},
	{folder: "internal/sdktest", is: "makes the SDK's test environment behave as Temporal does", may: "internal/sdktest", temporal: everywhere},
	{folder: "internal/markdowntest", is: "what renderers make of a page", may: "rotation", temporal: nowhere},
	{folder: "internal/testenv", is: "the one test environment with a real Temporal", may: "worker/adapters worker/engine " + everything, temporal: everywhere},
	{folder: "internal/...", is: "helpers that know no engine", may: "internal/... provider store rotation/... secret", temporal: everywhere},
	{folder: "tests/auditor", is: "judges rotations by what a client sees, and knows nothing of the simulators", inTests: "activities", may: "tests/auditor worker/engine internal/config internal/secretsearch provider/... store/... rotation/... secret", temporal: nowhere},
	{folder: "tests/model", is: "the engine's model, explored whole", may: "tests/model rotation/...", inTests: everything, temporal: testsOnly},
	{folder: "tests/...", is: "what is tested across rooms", may: "tests/... worker/adapters worker/engine worker/triggers worker/lambda/... starter/schedules " + everything, temporal: everywhere},
}

// rule says what a room may import.
func (r room) rule() string {
	return r.folder + " imports only " + r.may
}

// judge returns the rule that an import breaks; empty if it breaks none. file is relative to the root, with slashes.
func judge(file, imported string) string {
	dir, inTest := path.Dir(file), strings.HasSuffix(file, "_test.go")
	i := slices.IndexFunc(house, func(r room) bool { return fits(r.folder, dir, dir) })
	if i < 0 {
		return "every Go file is in a room of the house"
	}
	r := house[i]
	if imported == temporal || strings.HasPrefix(imported, temporal+"/") {
		if r.temporal == nowhere || r.temporal == testsOnly && !inTest {
			return "only the engine imports Temporal"
		}
		return ""
	}
	ours, isOurs := strings.CutPrefix(imported+"/", module+"/")
	ours = strings.TrimSuffix(ours, "/")
	if !isOurs {
		if r.standard && !inTest && strings.Contains(strings.Split(imported, "/")[0], ".") {
			return r.rule()
		}
		return ""
	}
	servers := []string{"worker", "starter", "tests/...", "internal/testenv", "internal/devserver"}
	if inTest {
		servers = append(servers, "client") // its examples run
	}
	if fits("internal/devserver", ours, "") && !slices.ContainsFunc(servers, func(p string) bool { return fits(p, dir, "") }) {
		return "only the two programs and the tests start a Temporal server"
	}
	if forTests := []string{"provider/providertest", "store/storetest", "notify/notifytest", "workflows/replaytest", "internal/sdktest", "internal/testenv", "internal/testlog", "internal/lockstep", "internal/markdowntest"}; slices.Contains(forTests, ours) && !inTest && dir != "internal/testenv" && !strings.HasPrefix(dir, "tests/") {
		return ours + " is imported by tests only"
	}
	if ours == dir {
		return "" // a test of the package from outside
	}
	may := strings.Fields(r.may)
	if inTest {
		may = append(may, strings.Fields(r.inTests)...)
	}
	if !slices.ContainsFunc(may, func(p string) bool { return fits(p, ours, dir) }) {
		return r.rule()
	}
	return ""
}

// fits reports whether a package (relative to the module) is one that pattern means, in a file of the folder dir.
func fits(pattern, pkg, dir string) bool {
	if rest, isSelf := strings.CutPrefix(pattern, "self/"); isSelf {
		parts := strings.SplitN(dir, "/", 3)
		if len(parts) < 2 {
			return false
		}
		pattern = parts[0] + "/" + parts[1] + "/" + rest
	}
	if tree, isTree := strings.CutSuffix(pattern, "/..."); isTree {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

// inspect reads the imports of every Go file under root and says what is wrong, and how many files it read.
func inspect(root string) (wrong []string, files int, err error) {
	ignored := ignoredFolders(root)
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || slices.Contains(ignored, rel)):
			return filepath.SkipDir
		case entry.IsDir():
			if !strings.Contains(rel, "/") && !slices.Contains(topLevel, rel) {
				wrong = append(wrong, fmt.Sprintf("the folder %s is no room of the house (%s)", rel, strings.Join(topLevel, ", ")))
			}
			return nil
		case !strings.HasSuffix(rel, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if rule := judge(rel, imported); rule != "" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, but %s", rel, imported, rule))
			}
		}
		return nil
	})
	return wrong, files, err
}

// ignoredFolders are the top-level folders that .gitignore keeps out of the repository: `/name/`.
func ignoredFolders(root string) []string {
	text, err := os.ReadFile(filepath.Join(root, ".gitignore"))
	if err != nil {
		return nil
	}
	var folders []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "/") && strings.HasSuffix(line, "/") {
			folders = append(folders, strings.Trim(line, "/"))
		}
	}
	return folders
}

func TestTheArrowsOfTheHouseRunOneWay(t *testing.T) {
	goMod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil || !strings.HasPrefix(string(goMod), "module "+module+"\n") {
		t.Fatalf("the parent folder is not the root of %s (%v)", module, err)
	}
	wrong, files, err := inspect("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	if files < 10 {
		t.Errorf("only %d Go files were read", files)
	}
}

func TestAnArrowThatRunsTheWrongWayIsSeen(t *testing.T) {
	for sentence, c := range map[string]struct{ file, imported, rule string }{
		"secret on rotation":                   {"secret/secret.go", module + "/rotation/fault", "secret/... imports only"},
		"secret's test on a simulator":         {"secret/secret_test.go", module + "/internal/simcloud", "secret/... imports only"},
		"secret on Temporal":                   {"secret/secret.go", temporal + "/sdk/converter", "only the engine"},
		"rotation on provider":                 {"rotation/due.go", module + "/provider", "rotation/... imports only"},
		"fault on store":                       {"rotation/fault/fault.go", module + "/store", "rotation/... imports only"},
		"rotation's test on activities":        {"rotation/due_test.go", module + "/activities", "rotation/... imports only"},
		"rotation on Temporal":                 {"rotation/due.go", temporal + "/sdk/workflow", "only the engine"},
		"the provider interface on a store":    {"provider/provider.go", module + "/store", "provider imports only"},
		"a provider on another":                {"provider/openai/probe.go", module + "/provider/googlesa", "provider/... imports only"},
		"a provider's test on another":         {"provider/openai/probe_test.go", module + "/provider/googlesa", "provider/... imports only"},
		"a provider on a store":                {"provider/openai/probe.go", module + "/store", "provider/... imports only"},
		"a provider on activities":             {"provider/openai/probe.go", module + "/activities", "provider/... imports only"},
		"a provider on a simulator":            {"provider/openai/probe.go", module + "/internal/simcloud", "provider/... imports only"},
		"a provider on config":                 {"provider/openai/probe.go", module + "/internal/config", "provider/... imports only"},
		"a provider on Temporal":               {"provider/openai/probe.go", temporal + "/sdk/temporal", "only the engine"},
		"a provider's test on Temporal":        {"provider/openai/probe_test.go", temporal + "/sdk/testsuite", "only the engine"},
		"a provider on its suite":              {"provider/openai/probe.go", module + "/provider/providertest", "by tests only"},
		"a provider's test on the other suite": {"provider/openai/probe_test.go", module + "/store/storetest", "provider/... imports only"},
		"a suite on an adapter":                {"provider/providertest/suite.go", module + "/provider/openai", "provider/providertest imports only"},
		"a store on another":                   {"store/local/file.go", module + "/store/gsm", "store/... imports only"},
		"a store on a provider":                {"store/local/file.go", module + "/provider", "store/... imports only"},
		"a store on Temporal":                  {"store/local/file.go", temporal + "/api/common/v1", "only the engine"},
		"what Google adapters share on one":    {"internal/googleapi/googleapi.go", module + "/provider/googlesa", "internal/googleapi imports only"},
		"what Google adapters share on secret": {"internal/googleapi/googleapi.go", module + "/secret", "internal/googleapi imports only"},
		"what Google adapters share, Temporal": {"internal/googleapi/googleapi.go", temporal + "/sdk/temporal", "only the engine"},
		"activities on what adapters share":    {"activities/create.go", module + "/internal/googleapi", "activities/... imports only"},
		"activities on workflows":              {"activities/create.go", module + "/workflows", "activities/... imports only"},
		"activities' test on workflows":        {"activities/create_test.go", module + "/workflows", "activities/... imports only"},
		"activities on an adapter":             {"activities/create.go", module + "/provider/openai", "activities/... imports only"},
		"activities on a simulator":            {"activities/create.go", module + "/internal/simcloud", "activities/... imports only"},
		"workflows on provider":                {"workflows/rotate.go", module + "/provider", "workflows/... imports only"},
		"workflows on store":                   {"workflows/rotate.go", module + "/store", "workflows/... imports only"},
		"workflows on secret":                  {"workflows/rotate.go", module + "/secret", "workflows/... imports only"},
		"the operator's page on activities":    {"workflows/details/page.go", module + "/activities", "workflows/details imports only"},
		"the operator's page on workflows":     {"workflows/details/page.go", module + "/workflows", "workflows/details imports only"},
		"the operator's page on Temporal":      {"workflows/details/page.go", temporal + "/sdk/workflow", "only the engine"},
		"the operator's page on renderers":     {"workflows/details/page.go", module + "/internal/markdowntest", "by tests only"},
		"workflows on internal":                {"workflows/rotate.go", module + "/internal/config", "workflows/... imports only"},
		"workflows' test on the server":        {"workflows/rotate_test.go", module + "/internal/devserver", "only the two programs"},
		"keyring on secret":                    {"keyring/keyring.go", module + "/secret", "keyring/... imports only"},
		"keyring on a library":                 {"keyring/keyring.go", "github.com/google/uuid", "keyring/... imports only"},
		"keyring on Temporal":                  {"keyring/keyring.go", temporal + "/sdk/client", "only the engine"},
		"a simulator on activities":            {"internal/simcloud/cloud.go", module + "/activities", "internal/simcloud/... imports only"},
		"a simulator on workflows":             {"internal/simcloud/cloud.go", module + "/workflows", "internal/simcloud/... imports only"},
		"a simulator on an adapter":            {"internal/simcloud/cloud.go", module + "/provider/openai", "internal/simcloud/... imports only"},
		"lockstep on workflows":                {"internal/lockstep/run.go", module + "/workflows", "internal/lockstep imports only"},
		"a scene on workflows":                 {"internal/simcloud/scenario/scenario.go", module + "/workflows", "internal/simcloud/scenario imports only"},
		"a channel on activities":              {"notify/slack/slack.go", module + "/activities", "notify/... imports only"},
		"a channel on Temporal":                {"notify/slack/slack.go", temporal + "/sdk/temporal", "only the engine"},
		"config on workflows":                  {"internal/config/config.go", module + "/workflows", "internal/config imports only"},
		"config on the server":                 {"internal/config/config.go", module + "/internal/devserver", "only the two programs"},
		"telemetry on activities":              {"internal/telemetry/log.go", module + "/activities", "internal/... imports only"},
		"AWS's function on activities":         {"worker/lambda/awsrotation/handler.go", module + "/activities", "worker/lambda/... imports only"},
		"AWS's function on another store":      {"worker/lambda/awsrotation/handler.go", module + "/store/local", "worker/lambda/... imports only"},
		"the workers on a store":               {"worker/engine/engine.go", module + "/store", "worker/engine imports only"},
		"workflows on the test environment":    {"workflows/rotate.go", module + "/internal/testenv", "tests only"},
		"the model on workflows":               {"tests/model/state.go", module + "/workflows", "tests/model imports only"},
		"the model on Temporal":                {"tests/model/state.go", temporal + "/sdk/workflow", "only the engine"},
		"the server on rotation":               {"internal/devserver/ui.go", module + "/rotation", "internal/devserver imports only"},
		"the worker on the starter":            {"worker/main.go", module + "/starter", "worker imports only"},
		"the starter on the tests":             {"starter/main.go", module + "/tests", "starter imports only"},
		"a file outside of the house":          {"main.go", "fmt", "is in a room of the house"},
		"a file in a new folder":               {"utils/strings.go", "fmt", "is in a room of the house"},
		"the module itself":                    {"worker/main.go", module, "worker imports only"},
	} {
		if got := judge(c.file, c.imported); !strings.Contains(got, c.rule) {
			t.Errorf("%s: %s imports %s: %q", sentence, c.file, c.imported, got)
		}
	}
}

func TestArrowsThatRunTheRightWayAreLeftAlone(t *testing.T) {
	for _, c := range []struct{ file, imported string }{
		{"secret/secret.go", "crypto/sha256"},
		{"secret/secret_test.go", temporal + "/sdk/converter"},
		{"rotation/due.go", module + "/rotation/fault"},
		{"rotation/key.go", module + "/secret"},
		{"provider/provider.go", module + "/rotation/fault"},
		{"provider/openai/probe.go", module + "/provider"},
		{"provider/openai/probe.go", "github.com/sashabaranov/go-openai"},
		{"provider/openai/wire/wire.go", module + "/provider/openai"},
		{"provider/openai/probe_test.go", module + "/internal/simcloud"},
		{"provider/openai/probe_test.go", module + "/provider/providertest"},
		{"provider/googlesa/faults.go", module + "/internal/googleapi"},
		{"store/googlesm/fault.go", module + "/internal/googleapi"},
		{"internal/googleapi/googleapi.go", module + "/rotation/fault"},
		{"provider/providertest/suite.go", module + "/internal/simcloud"},
		{"store/storetest/suite.go", module + "/store"},
		{"activities/create.go", module + "/provider"},
		{"activities/create.go", temporal + "/sdk/activity"},
		{"activities/create_test.go", module + "/store/local"},
		{"workflows/rotate.go", module + "/activities"},
		{"workflows/rotate_test.go", module + "/internal/simcloud"},
		{"keyring/keyring.go", "net/http"},
		{"internal/config/config.go", module + "/provider/openai"},
		{"internal/simcloud/openai.go", module + "/secret"},
		{"internal/simcloud/scenario/scenario.go", module + "/store/local"},
		{"worker/main.go", module + "/internal/devserver"},
		{"worker/lambda/main.go", module + "/worker/lambda/awsrotation"},
		{"worker/lambda/awsrotation/handler.go", module + "/store/awssm"},
		{"starter/main.go", module + "/workflows"},
		{"internal/sdktest/interceptors.go", temporal + "/sdk/testsuite"},
		{"internal/testenv/temporal.go", module + "/internal/devserver"},
		{"internal/testenv/testenv.go", module + "/worker/engine"},
		{"tests/model/state.go", module + "/rotation"},
		{"tests/model/engine_test.go", module + "/workflows"},
		{"tests/model/engine_test.go", temporal + "/sdk/testsuite"},
		{"tests/demo_test.go", module + "/internal/devserver"},
		{"worker/engine/engine.go", module + "/activities"},
		{"starter/demo.go", module + "/worker/engine"},
		// A module whose name begins like ours is not ours.
		{"keyring/keyring_test.go", module + "hq/keyring"},
	} {
		if rule := judge(c.file, c.imported); rule != "" {
			t.Errorf("%s imports %s: %s", c.file, c.imported, rule)
		}
	}
}

func TestAHouseWithAWrongArrowIsReportedWithFileImportAndRule(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		".gitignore":                "/artifacts/\n",
		"secret/secret.go":          "package secret\n\nimport _ \"" + module + "/store\"\n",
		"secret/testdata/a/a.go":    "package a\n\nimport _ \"" + module + "/store\"\n",
		"rotation/windows.go":       "//go:build windows\n\npackage rotation\n\nimport _ \"" + module + "/provider\"\n",
		"utils/readme.md":           "a room too many\n",
		"artifacts/report.go":       "package report\n",
		".hidden/tool.go":           "package tool\n\nimport _ \"" + module + "/secret\"\n",
		"store/local/local_test.go": "package local\n\nimport _ \"" + module + "/internal/simcloud\"\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	wrong, files, err := inspect(root)
	if err != nil || files != 3 {
		t.Errorf("%d files, %v", files, err)
	}
	slices.Sort(wrong)
	want := []string{
		"rotation/windows.go imports " + module + "/provider, but rotation/... imports only rotation/... secret",
		"secret/secret.go imports " + module + "/store, but secret/... imports only secret/...",
		"the folder utils is no room of the house (" + strings.Join(topLevel, ", ") + ")",
	}
	if !slices.Equal(wrong, want) {
		t.Errorf("got %q", wrong)
	}
}
