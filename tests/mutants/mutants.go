package mutants

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mutant is a breakage: one change of one syntax tree.
type Mutant struct {
	// File is relative to the module, Function is where it is, as in "(*runner).disable".
	File, Function string
	// Kind is what is changed, N which of its kind in the function, counted from 0.
	Kind string
	N    int
	// What is the place as it was, on one line.
	What string
}

func (m Mutant) String() string {
	return fmt.Sprintf("%s:%s:%s-%d", m.File, m.Function, m.Kind, m.N)
}

// change is a place that can be changed. do changes it in the tree.
type change struct {
	kind string
	node ast.Node
	do   func()
}

// Find returns the breakages of a file of the module at root, in the order of its text.
func Find(root, file string) ([]Mutant, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, filepath.Join(root, file), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var all []Mutant
	for _, f := range functions(tree) {
		count := map[string]int{}
		for _, c := range changes(f) {
			all = append(all, Mutant{file, name(f), c.kind, count[c.kind], text(fset, c.node)})
			count[c.kind]++
		}
	}
	return all, nil
}

// Apply returns the text of the file with the breakage in it.
func Apply(root string, m Mutant) ([]byte, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, filepath.Join(root, m.File), nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return nil, err
	}
	for _, f := range functions(tree) {
		if name(f) != m.Function {
			continue
		}
		n := m.N
		for _, c := range changes(f) {
			if c.kind != m.Kind {
				continue
			}
			if n == 0 {
				c.do()
				var b bytes.Buffer
				err := format.Node(&b, fset, tree)
				return b.Bytes(), err
			}
			n--
		}
	}
	return nil, fmt.Errorf("there is no breakage %s", m)
}

func functions(tree *ast.File) (all []*ast.FuncDecl) {
	for _, d := range tree.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
			all = append(all, f)
		}
	}
	return all
}

// name is how a stack trace calls a function, without its package.
func name(f *ast.FuncDecl) string {
	if f.Recv == nil || len(f.Recv.List) == 0 {
		return f.Name.Name
	}
	switch t := f.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		if id, ok := t.X.(*ast.Ident); ok {
			return "(*" + id.Name + ")." + f.Name.Name
		}
	case *ast.Ident:
		return t.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// opposite are the operators that a condition can have instead.
var opposite = map[token.Token]token.Token{
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LSS: token.GEQ, token.GEQ: token.LSS, token.GTR: token.LEQ, token.LEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND,
}

// changes are the places of a function that can be changed.
func changes(f *ast.FuncDecl) (all []change) {
	// drop leaves a statement out; what it declares could be missing, so declarations stay.
	drop := func(list []ast.Stmt) {
		for i, s := range list {
			switch s := s.(type) {
			case *ast.ExprStmt:
			case *ast.AssignStmt:
				if s.Tok == token.DEFINE || len(s.Lhs) != 1 {
					continue
				}
				if _, field := s.Lhs[0].(*ast.SelectorExpr); !field {
					continue
				}
			default:
				continue
			}
			all = append(all, change{"drop", s, func() { list[i] = &ast.EmptyStmt{Semicolon: s.Pos()} }})
		}
	}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			drop(n.List)
		case *ast.CaseClause:
			drop(n.Body)
			if len(n.List) == 1 {
				if _, condition := n.List[0].(*ast.BinaryExpr); condition {
					all = append(all, change{"never", n.List[0], func() { n.List[0] = &ast.BinaryExpr{X: n.List[0], Op: token.LAND, Y: ast.NewIdent("false")} }})
				}
			}
		case *ast.IfStmt:
			all = append(all, change{"never", n.Cond, func() {
				n.Cond = &ast.BinaryExpr{X: &ast.ParenExpr{X: n.Cond}, Op: token.LAND, Y: ast.NewIdent("false")}
			}})
		case *ast.BinaryExpr:
			if other, ok := opposite[n.Op]; ok {
				all = append(all, change{"opposite", n, func() { n.Op = other }})
			}
		}
		return true
	})
	return all
}

// text is a place on one line.
func text(fset *token.FileSet, n ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, fset, n); err != nil {
		return err.Error()
	}
	line := strings.Join(strings.Fields(b.String()), " ")
	return line[:min(len(line), 120)]
}

// Files are the files of a folder that can be broken: no tests, nothing generated.
func Files(root, folder string) (files []string, err error) {
	entries, err := os.ReadDir(filepath.Join(root, folder))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && strings.HasSuffix(n, ".go") && !strings.HasSuffix(n, "_test.go") && n != "doc.go" {
			files = append(files, filepath.Join(folder, n))
		}
	}
	slices.Sort(files)
	return files, nil
}
