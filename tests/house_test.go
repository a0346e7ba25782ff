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
var topLevel = strings.Fields("workflows activities provider store rotation secret keyring worker starter tests internal docs")

// room says what the packages of a folder may import of ours. Patterns: `a` is the package a, `a/...` is a and
// all below it, `self/...` is the folder two levels deep that the file stands in. The first room that fits counts.
type room struct {
	folder string
	rule   string
	may    []string
	// inTests is what test files may import besides.
	inTests []string
	// noTemporal: no file imports Temporal; noTemporalInCode: test files may.
	noTemporal, noTemporalInCode bool
	// onlyStandard: nothing but the standard library, test files excepted.
	onlyStandard bool
}

// everything but the two programs and the tests, which nobody imports.
var everything = strings.Fields("workflows/... activities/... provider/... store/... rotation/... secret/... keyring/... internal/...")

var house = []room{
	{folder: "secret/...", rule: "secret imports nothing of ours", may: []string{"secret/..."}, noTemporalInCode: true},
	{folder: "rotation/...", rule: "rotation imports nothing of ours but secret", may: []string{"rotation/...", "secret"}, noTemporalInCode: true},
	{folder: "provider/providertest", rule: "a suite imports its interface, rotation, secret and the simulators", may: []string{"provider", "rotation/...", "secret", "internal/simcloud/..."}, noTemporal: true},
	{folder: "store/storetest", rule: "a suite imports its interface, rotation, secret and the simulators", may: []string{"store", "rotation/...", "secret", "internal/simcloud/..."}, noTemporal: true},
	{folder: "provider", rule: "the provider interface imports only rotation and secret", may: []string{"rotation/...", "secret"}, noTemporal: true},
	{folder: "store", rule: "the store interface imports only rotation and secret", may: []string{"rotation/...", "secret"}, noTemporal: true},
	{folder: "provider/...", rule: "a provider imports only provider, rotation, secret and internal/google; its tests also the simulators and the suite", may: []string{"provider", "self/...", "rotation/...", "secret", "internal/google"}, inTests: []string{"internal/simcloud/...", "provider/providertest"}, noTemporal: true},
	{folder: "store/...", rule: "a store imports only store, rotation, secret and internal/google; its tests also the simulators and the suite", may: []string{"store", "self/...", "rotation/...", "secret", "internal/google"}, inTests: []string{"internal/simcloud/...", "store/storetest"}, noTemporal: true},
	{folder: "activities/...", rule: "activities import the provider and store interfaces, rotation and secret", may: []string{"activities/...", "provider", "store", "rotation/...", "secret"}, inTests: []string{"provider/...", "store/...", "internal/simcloud/...", "internal/config"}},
	{folder: "workflows/...", rule: "workflows import only activities and rotation", may: []string{"workflows/...", "activities", "rotation/..."}, inTests: everything},
	{folder: "keyring/...", rule: "keyring imports only the standard library", may: []string{"keyring/..."}, inTests: []string{"internal/simcloud/...", "secret"}, noTemporalInCode: true, onlyStandard: true},
	{folder: "internal/simcloud/scene/...", rule: "a scene sets simulators and adapters up, and knows nothing of the engine", may: []string{"internal/simcloud/...", "internal/config/...", "provider/...", "store/...", "rotation/...", "secret"}, noTemporal: true},
	{folder: "internal/simcloud/...", rule: "the simulators know nothing of the engine", may: []string{"internal/simcloud/...", "provider", "store", "rotation/...", "secret"}, inTests: []string{"provider/...", "store/..."}, noTemporal: true},
	{folder: "internal/config/...", rule: "config imports activities, providers, stores, rotation and secret: it opens what the file names", may: []string{"internal/config/...", "internal/notify", "activities", "provider/...", "store/...", "rotation/...", "secret"}, inTests: []string{"internal/simcloud/..."}},
	{folder: "internal/devserver/...", rule: "the embedded Temporal server imports nothing of ours", may: []string{"internal/devserver/..."}},
	{folder: "internal/workers/...", rule: "the workers put workflows and activities to work, and nothing else", may: []string{"internal/workers/...", "internal/rotations", "workflows", "activities", "rotation/..."}, inTests: everything},
	{folder: "internal/rotations/...", rule: "a client of rotations knows the workflows and what they are about, and nothing of providers and stores", may: []string{"internal/rotations/...", "workflows", "activities", "rotation/..."}, inTests: everything},
	{folder: "internal/histories/...", rule: "what replays histories knows the workflows only", may: []string{"internal/histories/...", "workflows"}},
	{folder: "internal/fleet/...", rule: "a fleet is schedules and keys: it knows the workflows that they start, and nothing of providers and stores", may: []string{"internal/fleet/...", "internal/rotations", "workflows", "activities", "rotation/..."}, inTests: everything},
	{folder: "internal/trigger/...", rule: "the listener knows the workflow that it starts, and nothing of providers and stores", may: []string{"internal/trigger/...", "internal/config", "internal/signature", "internal/secretfile", "workflows", "activities", "rotation/...", "secret"}, inTests: everything},
	{folder: "internal/awsrotation/...", rule: "AWS's rotation function asks rotations and the store on AWS, and does none of the work", may: []string{"internal/awsrotation/...", "internal/rotations", "workflows", "rotation/...", "store/awssm"}, inTests: everything},
	{folder: "internal/google/...", rule: "what the adapters of Google share imports only faults", may: []string{"internal/google/...", "rotation/fault"}, noTemporal: true},
	{folder: "internal/lockstep/...", rule: "lockstep drives any workflow and knows none of ours; its tests do", may: []string{"internal/lockstep/..."}, inTests: []string{"workflows", "activities", "rotation/..."}},
	{folder: "internal/notify/...", rule: "what tells people knows notices, not the engine", may: []string{"internal/notify/...", "internal/signature", "internal/secretfile", "rotation/...", "secret"}, inTests: []string{"internal/simcloud/..."}, noTemporal: true},
	{folder: "internal/signature/...", rule: "signatures know secrets only", may: []string{"secret"}, noTemporal: true},
	{folder: "internal/secretfile/...", rule: "files of secrets know secrets only", may: []string{"secret"}, noTemporal: true},
	{folder: "internal/testenv/...", rule: "the test environment behaves as Temporal does, and knows nothing of ours", may: []string{"internal/testenv/..."}},
	{folder: "internal/...", rule: "internal packages know nothing of activities, workflows and the programs", may: []string{"internal/...", "provider", "store", "rotation/...", "secret"}},
	{folder: "worker/...", rule: "the worker imports neither the starter nor the tests", may: append([]string{"worker/..."}, everything...)},
	{folder: "starter/...", rule: "the starter imports neither the worker nor the tests", may: append([]string{"starter/..."}, everything...)},
	{folder: "tests/model/...", rule: "the model of the engine knows the domain only; its tests may compare it with the engine", may: []string{"tests/model/...", "rotation/..."}, inTests: everything, noTemporalInCode: true},
	{folder: "tests/...", rule: "nobody imports a program", may: append([]string{"tests/..."}, everything...)},
}

// judge gives the rule that an import breaks; empty if it breaks none. file is relative to the root, with slashes.
func judge(file, imported string) string {
	dir, inTest := path.Dir(file), strings.HasSuffix(file, "_test.go")
	i := slices.IndexFunc(house, func(r room) bool { return fits(r.folder, dir, dir) })
	if i < 0 {
		return "every Go file stands in a room of the house"
	}
	r := house[i]
	if imported == temporal || strings.HasPrefix(imported, temporal+"/") {
		if r.noTemporal || r.noTemporalInCode && !inTest {
			return "only the engine imports Temporal"
		}
		return ""
	}
	ours, isOurs := strings.CutPrefix(imported+"/", module+"/")
	ours = strings.TrimSuffix(ours, "/")
	if !isOurs {
		if r.onlyStandard && !inTest && strings.Contains(strings.Split(imported, "/")[0], ".") {
			return r.rule
		}
		return ""
	}
	for _, tree := range []string{"internal/devserver/...", "internal/workers/..."} {
		if fits(tree, ours, "") && !slices.ContainsFunc([]string{"worker/...", "starter/...", "tests/...", tree}, func(p string) bool { return fits(p, dir, "") }) {
			return "only the worker, the starter and the tests start a Temporal server or workers"
		}
	}
	isSuite := ours == "provider/providertest" || ours == "store/storetest"
	if isSuite && !inTest {
		return "a suite is imported by tests only"
	}
	may := r.may
	if inTest {
		may = append(slices.Clone(may), r.inTests...)
	}
	if !slices.ContainsFunc(may, func(p string) bool { return fits(p, ours, dir) }) {
		return r.rule
	}
	return ""
}

// fits tells whether a package (relative to the module) is one that pattern means, in a file of the folder dir.
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
		"secret on rotation":                   {"secret/secret.go", module + "/rotation/fault", "secret imports nothing"},
		"secret's test on a simulator":         {"secret/secret_test.go", module + "/internal/simcloud", "secret imports nothing"},
		"secret on Temporal":                   {"secret/secret.go", temporal + "/sdk/converter", "only the engine"},
		"rotation on provider":                 {"rotation/due.go", module + "/provider", "rotation imports nothing"},
		"fault on store":                       {"rotation/fault/fault.go", module + "/store", "rotation imports nothing"},
		"rotation's test on activities":        {"rotation/due_test.go", module + "/activities", "rotation imports nothing"},
		"rotation on Temporal":                 {"rotation/due.go", temporal + "/sdk/workflow", "only the engine"},
		"the provider interface on a store":    {"provider/provider.go", module + "/store", "the provider interface"},
		"a provider on another":                {"provider/openai/probe.go", module + "/provider/googlesa", "a provider imports"},
		"a provider's test on another":         {"provider/openai/probe_test.go", module + "/provider/googlesa", "a provider imports"},
		"a provider on a store":                {"provider/openai/probe.go", module + "/store", "a provider imports"},
		"a provider on activities":             {"provider/openai/probe.go", module + "/activities", "a provider imports"},
		"a provider on a simulator":            {"provider/openai/probe.go", module + "/internal/simcloud", "a provider imports"},
		"a provider on config":                 {"provider/openai/probe.go", module + "/internal/config", "a provider imports"},
		"a provider on Temporal":               {"provider/openai/probe.go", temporal + "/sdk/temporal", "only the engine"},
		"a provider's test on Temporal":        {"provider/openai/probe_test.go", temporal + "/sdk/testsuite", "only the engine"},
		"a provider on its suite":              {"provider/openai/probe.go", module + "/provider/providertest", "by tests only"},
		"a provider's test on the other suite": {"provider/openai/probe_test.go", module + "/store/storetest", "a provider imports"},
		"a suite on an adapter":                {"provider/providertest/suite.go", module + "/provider/openai", "a suite imports"},
		"a store on another":                   {"store/local/file.go", module + "/store/gsm", "a store imports"},
		"a store on a provider":                {"store/local/file.go", module + "/provider", "a store imports"},
		"a store on Temporal":                  {"store/local/file.go", temporal + "/api/common/v1", "only the engine"},
		"what Google adapters share on one":    {"internal/google/google.go", module + "/provider/googlesa", "imports only faults"},
		"what Google adapters share on secret": {"internal/google/google.go", module + "/secret", "imports only faults"},
		"what Google adapters share, Temporal": {"internal/google/google.go", temporal + "/sdk/temporal", "only the engine"},
		"activities on what adapters share":    {"activities/create.go", module + "/internal/google", "activities import"},
		"activities on workflows":              {"activities/create.go", module + "/workflows", "activities import"},
		"activities' test on workflows":        {"activities/create_test.go", module + "/workflows", "activities import"},
		"activities on an adapter":             {"activities/create.go", module + "/provider/openai", "activities import"},
		"activities on a simulator":            {"activities/create.go", module + "/internal/simcloud", "activities import"},
		"workflows on provider":                {"workflows/rotate.go", module + "/provider", "workflows import"},
		"workflows on store":                   {"workflows/rotate.go", module + "/store", "workflows import"},
		"workflows on secret":                  {"workflows/rotate.go", module + "/secret", "workflows import"},
		"workflows on internal":                {"workflows/rotate.go", module + "/internal/config", "workflows import"},
		"workflows' test on the server":        {"workflows/rotate_test.go", module + "/internal/devserver", "start a Temporal server"},
		"keyring on secret":                    {"keyring/keyring.go", module + "/secret", "keyring imports"},
		"keyring on a library":                 {"keyring/keyring.go", "github.com/google/uuid", "keyring imports"},
		"keyring on Temporal":                  {"keyring/keyring.go", temporal + "/sdk/client", "only the engine"},
		"a simulator on activities":            {"internal/simcloud/cloud.go", module + "/activities", "the simulators"},
		"a simulator on workflows":             {"internal/simcloud/cloud.go", module + "/workflows", "the simulators"},
		"a simulator on an adapter":            {"internal/simcloud/cloud.go", module + "/provider/openai", "the simulators"},
		"lockstep on workflows":                {"internal/lockstep/run.go", module + "/workflows", "lockstep drives"},
		"a scene on workflows":                 {"internal/simcloud/scene/scene.go", module + "/workflows", "a scene sets"},
		"a channel on activities":              {"internal/notify/slack.go", module + "/activities", "knows notices"},
		"a channel on Temporal":                {"internal/notify/slack.go", temporal + "/sdk/temporal", "only the engine"},
		"config on workflows":                  {"internal/config/config.go", module + "/workflows", "config imports"},
		"config on the server":                 {"internal/config/config.go", module + "/internal/devserver", "start a Temporal server"},
		"telemetry on activities":              {"internal/telemetry/log.go", module + "/activities", "internal packages"},
		"AWS's function on activities":         {"internal/awsrotation/handler.go", module + "/activities", "AWS's rotation function"},
		"AWS's function on another store":      {"internal/awsrotation/handler.go", module + "/store/local", "AWS's rotation function"},
		"the workers on a store":               {"internal/workers/workers.go", module + "/store", "the workers put"},
		"workflows' test on the workers":       {"workflows/rotate_test.go", module + "/internal/workers", "start a Temporal server or workers"},
		"the test environment on workflows":    {"internal/testenv/interceptors.go", module + "/workflows", "the test environment"},
		"the model on workflows":               {"tests/model/state.go", module + "/workflows", "the model of the engine"},
		"the model on Temporal":                {"tests/model/state.go", temporal + "/sdk/workflow", "only the engine"},
		"the server on rotation":               {"internal/devserver/ui.go", module + "/rotation", "imports nothing of ours"},
		"the worker on the starter":            {"worker/main.go", module + "/starter", "neither the starter"},
		"the starter on the tests":             {"starter/main.go", module + "/tests", "nor the tests"},
		"a file outside of the house":          {"main.go", "fmt", "in a room of the house"},
		"a file in a new folder":               {"utils/strings.go", "fmt", "in a room of the house"},
		"the module itself":                    {"worker/main.go", module, "neither the starter"},
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
		{"provider/googlesa/faults.go", module + "/internal/google"},
		{"store/googlesm/fault.go", module + "/internal/google"},
		{"internal/google/google.go", module + "/rotation/fault"},
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
		{"internal/simcloud/scene/scene.go", module + "/store/local"},
		{"worker/main.go", module + "/internal/devserver"},
		{"worker/lambda/main.go", module + "/internal/awsrotation"},
		{"internal/awsrotation/handler.go", module + "/store/awssm"},
		{"starter/main.go", module + "/workflows"},
		{"internal/testenv/interceptors.go", temporal + "/sdk/testsuite"},
		{"tests/model/state.go", module + "/rotation"},
		{"tests/model/engine_test.go", module + "/workflows"},
		{"tests/model/engine_test.go", temporal + "/sdk/testsuite"},
		{"tests/demo_test.go", module + "/internal/devserver"},
		{"internal/workers/workers.go", module + "/activities"},
		{"starter/demo.go", module + "/internal/workers"},
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
		"rotation/windows.go imports " + module + "/provider, but rotation imports nothing of ours but secret",
		"secret/secret.go imports " + module + "/store, but secret imports nothing of ours",
		"the folder utils is no room of the house (" + strings.Join(topLevel, ", ") + ")",
	}
	if !slices.Equal(wrong, want) {
		t.Errorf("got %q", wrong)
	}
}
