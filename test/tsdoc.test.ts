import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import ts from 'typescript'

const path = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url))

/** Described as a whole: the names of Redis commands, methods of prom-client, and attributes that `MountOptions` describes. */
const PLAIN = ['RedisLike', 'MetricsRegistry', 'TooljetEmbedAttributes']

for (const entry of ['plugin/index.ts', 'plugin/browser/index.ts']) {
  test(`${entry}: every export has a comment, and so has every field of an interface`, async (t) => {
    const program = ts.createProgram([path(entry)], { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.NodeNext, lib: ['lib.es2023.d.ts', 'lib.dom.d.ts'], skipLibCheck: true })
    const checker = program.getTypeChecker()
    const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path(entry))!)!)
    t.ok(exported.length > 5)

    const bare: string[] = []
    const look = (symbol: ts.Symbol, name = symbol.name): void => {
      if (symbol.getDocumentationComment(checker).length === 0) bare.push(name)
    }
    for (const named of exported) {
      const { name } = named
      const symbol = named.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(named) : named
      look(symbol, name)
      if (symbol.flags & ts.SymbolFlags.Class || !(symbol.flags & ts.SymbolFlags.Interface) || PLAIN.includes(name)) continue
      for (const field of symbol.members!.values()) {
        if (field.name !== ts.InternalSymbolName.Index) look(field, `${name}.${field.name}`)
      }
    }
    t.same(bare, [])
  })
}
