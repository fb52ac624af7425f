import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { blocksOf, ROOT } from '../support/markdown.js'
import { plainEnv } from '../support/plain-env.js'

/* What builds, tests and installs hosts besides npm and tsc: bundlers, test runners, package managers that are strict. */

export const TOOLS = [
  'webpack@5', 'webpack-cli@7', 'rollup@4', '@rollup/plugin-commonjs@29', '@rollup/plugin-json@6', '@rollup/plugin-node-resolve@16',
  'jest@30', 'ts-jest@29', 'typescript@5.9', '@types/node@20', '@types/jest@30', 'vitest@4', 'pnpm@10', '@yarnpkg/cli-dist@4',
]

const run = promisify(execFile)

function block (doc: string, text: string): string {
  const found = blocksOf(doc).find(({ code }) => code.includes(text))
  if (found === undefined) throw new Error(`${doc} has no block with "${text}"`)
  return found.code
}

/** Bundles both of README's hosts. @returns for each bundler what is started, in a folder with nothing besides */
export async function bundle (project: string, empty: (name: string) => string): Promise<Record<string, { cwd: string, args: string[], hasDashboard: boolean }>> {
  cpSync(join(ROOT, 'test/package/tools'), project, { recursive: true })
  writeFileSync(join(project, 'host.mjs'), block('README.md', 'logger: true'))
  writeFileSync(join(project, 'host.cjs'), block('README.md', 'require('))
  writeFileSync(join(project, 'webpack.config.js'), block('docs/hosts.md', "entry: './host.cjs'"))
  for (const args of [['rollup', '-c', '--silent'], ['webpack']]) await run(process.execPath, [join(project, 'node_modules/.bin', args[0]!), ...args.slice(1)], { cwd: project })
  const from = (name: string): string => {
    const cwd = empty(name)
    cpSync(join(project, name), cwd, { recursive: true })
    return cwd
  }
  return {
    webpack: { cwd: from('webpack'), args: ['host.cjs'], hasDashboard: false },
    rollup: { cwd: from('rollup'), args: ['host.mjs'], hasDashboard: true },
  }
}

const TYPED_TEST = `import { test } from '@jest/globals'
import { tooljetEmbed, type TooljetEmbedOptions } from 'fastify-tooljet-embed'
import { starts } from './starts.js'

const options: Partial<TooljetEmbedOptions> = { patExpiry: 600 }
test('a host starts', async () => {
  if (typeof tooljetEmbed !== 'function' || options.patExpiry !== 600) throw new Error('it is not there')
  await starts()
})
`

/** How each runner is started; the settings are those of docs/hosts.md. */
export function runners (project: string): Record<string, (env: NodeJS.ProcessEnv) => Promise<unknown>> {
  writeFileSync(join(project, 'typed.test.ts'), TYPED_TEST)
  writeFileSync(join(project, 'jest.esm.config.js'), block('docs/hosts.md', 'extensionsToTreatAsEsm'))
  writeFileSync(join(project, 'jest.commonjs.config.js'), block('docs/hosts.md', 'transformIgnorePatterns'))
  const starts = (...args: string[]) => (env: NodeJS.ProcessEnv) => run(process.execPath, args, { cwd: project, env: { ...plainEnv(), ...env } })
  const jest = 'node_modules/jest/bin/jest.js'
  return {
    'Jest, ESM': starts('--experimental-vm-modules', jest, '--config', '{"transform":{}}', 'jest.test.js'),
    'Jest with ts-jest, ESM': starts('--experimental-vm-modules', jest, '--config', 'jest.esm.config.js', 'typed.test.ts'),
    'Jest with ts-jest, CommonJS': starts(jest, '--config', 'jest.commonjs.config.js', 'typed.test.ts'),
    Vitest: starts('node_modules/vitest/vitest.mjs', 'run', 'vitest.test.js'),
    'node:test': starts('--test', 'node.test.js'),
  }
}

/** Installs the tarball where a package sees what it names and nothing else, and compiles README's host there. @returns how it is started */
export const STRICT: Record<string, (tools: string, project: string, packages: string[], registry: string) => Promise<string[]>> = {
  async pnpm (tools, project, packages, registry) {
    prepare(project)
    await run(process.execPath, [join(tools, 'node_modules/pnpm/bin/pnpm.cjs'), 'add', '--config.strict-peer-dependencies=true', ...packages], { cwd: project, env: { ...withoutNpm(), npm_config_registry: registry } })
    await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], { cwd: project })
    return ['out/minimal.js']
  },
  async 'Yarn PnP' (tools, project, packages, registry) {
    prepare(project)
    const env = { ...withoutNpm(), YARN_NPM_REGISTRY_SERVER: registry, YARN_NODE_LINKER: 'pnp', YARN_ENABLE_TELEMETRY: '0', YARN_ENABLE_GLOBAL_CACHE: 'false' }
    const yarn = (...args: string[]) => run(process.execPath, [join(tools, 'node_modules/@yarnpkg/cli-dist/bin/yarn.js'), ...args], { cwd: project, env })
    await yarn('add', ...packages)
    await yarn('tsc', '-p', '.')
    return ['--require', './.pnp.cjs', '--no-warnings', '--experimental-loader', './.pnp.loader.mjs', 'out/minimal.js']
  },
}

/** npm tells its settings to all that it starts, and this repository's own are none of theirs. */
function withoutNpm (): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)))
}

function prepare (project: string): void {
  mkdirSync(project)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }))
  writeFileSync(join(project, 'yarn.lock'), '') // its own project, whatever is above
  writeFileSync(join(project, 'minimal.ts'), block('README.md', 'logger: true'))
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: { target: 'es2022', strict: true, types: ['node'], module: 'nodenext', outDir: 'out' }, files: ['minimal.ts'] }))
}
