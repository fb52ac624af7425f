import { fileURLToPath } from 'node:url'
import { createServer, type ViteDevServer } from 'vite'

/** Vite's development server for the page, which is told where its API is. */
export async function servePage ({ port, apiUrl }: { port: number, apiUrl: string }): Promise<ViteDevServer> {
  const server = await createServer({
    configFile: false,
    root: fileURLToPath(new URL('page', import.meta.url)),
    resolve: { alias: { 'fastify-tooljet-embed/client': fileURLToPath(new URL('../../dist/browser/tooljet-embed.js', import.meta.url)) } },
    define: { 'import.meta.env.VITE_API_URL': JSON.stringify(apiUrl) },
    server: {
      host: 'localhost',
      port,
      strictPort: true,
      fs: { allow: [fileURLToPath(new URL('../..', import.meta.url))] }, // the element is in this very repository
    },
    logLevel: 'warn',
  })
  return server.listen()
}
