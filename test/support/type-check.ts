import { join } from 'node:path'
import ts from 'typescript'
import { file, ROOT, type Block } from './markdown.js'

/** What blocks take for granted: the page or the host around them. */
const AROUND = `
import type { FastifyInstance } from 'fastify'
declare global {
  const app: FastifyInstance
  const iframe: HTMLIFrameElement
  const email: string
  const appId: string
}
declare module 'fastify' {
  interface FastifyInstance { config: Record<string, string> } // of @fastify/env
}
`

const base = ts.parseJsonConfigFileContent(JSON.parse(file('tsconfig.json')), ts.sys, ROOT).options
const options: ts.CompilerOptions = {
  ...base,
  rootDir: undefined,
  lib: [...base.lib!, 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'],
  jsx: ts.JsxEmit.ReactJSX,
  allowJs: true,
  checkJs: true,
  paths: { 'fastify-tooljet-embed': [join(ROOT, 'plugin/index.ts')], 'fastify-tooljet-embed/client': [join(ROOT, 'plugin/browser/index.ts')] },
}

const parsed = new Map<string, ts.SourceFile | undefined>()

/** A program of these files, that need not be on the disk, and of all that they import. */
function programOf (files: Map<string, string>, options: ts.CompilerOptions): ts.Program {
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = (name) => files.has(name) || fileExists.call(host, name)
  host.readFile = (name) => files.get(name) ?? readFile.call(host, name)
  host.getSourceFile = (name, version) => {
    const own = files.get(name)
    if (own !== undefined) return ts.createSourceFile(name, own, version, true)
    if (!parsed.has(name)) parsed.set(name, getSourceFile.call(host, name, version))
    return parsed.get(name)
  }
  return ts.createProgram([...files.keys()], options, host)
}

function fileNameOf ({ language, code }: Block, i: number): string {
  const extension = language === 'js' ? (/\brequire\(/.test(code) ? 'cjs' : 'mjs') : language
  return join(ROOT, 'docs', `block-${i}.${extension}`)
}

/** Compiles blocks as modules of this repository: TypeScript strictly, JavaScript as far as it can be known. @returns what is wrong */
export function typeCheck (blocks: Block[]): string[] {
  return [true, false].flatMap((strict) => {
    const chosen = blocks.filter(({ language }) => strict === (language !== 'js'))
    const named = new Map(chosen.map((block, i) => [fileNameOf(block, i), block]))
    const files = new Map([...named].map(([name, { code }]) => [name, code]))
    files.set(join(ROOT, 'docs', 'around.ts'), AROUND)
    const program = programOf(files, { ...options, strict })
    return [...named].flatMap(([name, { at, code }]) => {
      const source = program.getSourceFile(name)!
      return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(({ start = 0, messageText }) => (
        `${at}: ${code.slice(start).split('\n')[0]}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
      ))
    })
  })
}

/** Names of the fields of exported interfaces, one level deep: `audit.stream`. */
export function fieldsOf (entry: string, name: string): string[] {
  const path = join(ROOT, entry)
  const program = programOf(new Map([[join(ROOT, 'docs', 'none.ts'), `import ${JSON.stringify(`../${entry.replace('.ts', '.js')}`)}`]]), options)
  const checker = program.getTypeChecker()
  const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(path)!)!).find((symbol) => symbol.name === name)!
  const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
  return checker.getDeclaredTypeOfSymbol(symbol).getProperties().flatMap((field) => {
    const type = checker.getNonNullableType(checker.getTypeOfSymbol(field))
    const objects = (type.isUnion() ? type.types : [type]).filter((one) => one.flags & ts.TypeFlags.Object && one.getCallSignatures().length === 0 && (
      one.symbol.flags & ts.SymbolFlags.TypeLiteral || one.symbol.name.startsWith('Tooljet')))
    return [field.name, ...objects.flatMap((one) => one.getProperties().map((inner) => `${field.name}.${inner.name}`))]
  })
}
