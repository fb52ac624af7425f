import commonjs from '@rollup/plugin-commonjs'
import json from '@rollup/plugin-json'
import nodeResolve from '@rollup/plugin-node-resolve'

export default {
  input: 'host.mjs',
  output: { dir: 'rollup', entryFileNames: 'host.mjs', chunkFileNames: '[name].mjs', banner: "import { createRequire as bannerRequire } from 'node:module'\nconst require = bannerRequire(import.meta.url)" },
  plugins: [nodeResolve({ exportConditions: ['node'] }), commonjs({ ignore: ['node:sqlite'] }), json()],
}
