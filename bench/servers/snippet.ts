import type { AddressInfo } from 'node:net'
import axios from 'axios'
import express from 'express'
import { PATH, serve } from './serve.js'

/* The portal's server as in ToolJet's documentation: it believes the e-mail that the browser sends, and mints for each page view. */

await serve(async ({ toolJetUrl, apiToken }) => {
  const app = express()
  app.use(express.json())
  app.post(PATH, async (request, response) => {
    const { email, appId } = request.body as { email?: string, appId?: string }
    if (!email || !appId) {
      response.status(400).json({ error: 'Email and appId are required' })
      return
    }
    const { data } = await axios.post<{ redirectUrl: string }>(
      `${toolJetUrl}/api/ext/users/personal-access-token`,
      { email, appId, sessionExpiry: 60, patExpiry: 3600 },
      { headers: { 'Content-Type': 'application/json', Authorization: `Basic ${apiToken}` } }
    )
    response.json({ redirectUrl: data.redirectUrl })
  })

  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => { server.once('listening', resolve) })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, close: async () => server.close() }
})
