// OHIF's configuration on this server. What the server knows stands before it, as `server`.
(() => {
  'use strict';
  // With data partitions, /viewer/partitions/{name}/… shows that one, and /viewer/… the default one.
  const named = server.partitioned && location.pathname.match(/^\/viewer\/partitions\/([^/]+)/);
  const base = named ? named[0] : '/viewer';
  const partition = server.partitioned ? `/partitions/${named ? named[1] : 'Microsoft.Default'}` : '';
  const root = `/v2${partition}`;

  // /viewer/{StudyInstanceUID} is the reference's address of a study; OHIF 3 wants it in the query.
  const studies = location.pathname.slice(base.length).match(/^\/([0-9.]+(?:[,;][0-9.]+)*)\/?$/);
  if (studies) {
    const query = new URLSearchParams(location.search);
    query.set('StudyInstanceUIDs', studies[1].replaceAll(';', ','));
    history.replaceState(null, '', `${base}/viewer?${query}`);
  }

  if (location.pathname === `${base}/signed-out`) {
    history.replaceState(null, '', `${base}/`);
  }

  // A palette is bulk data, which metadata name only where they are asked to; OHIF knows no setting that asks.
  const open = XMLHttpRequest.prototype.open;
  XMLHttpRequest.prototype.open = function (method, address, ...others) {
    const url = new URL(address, location.href);
    if (url.origin === location.origin && url.pathname.startsWith(`${root}/`) && url.pathname.endsWith('/metadata')) {
      url.searchParams.set('bulkdata', 'uri');
    }
    return open.call(this, method, url.href, ...others);
  };

  // Addresses that OHIF makes itself are relative to these.
  window.PUBLIC_URL = server.files;
  window.browserImportFunction = name => import(name.startsWith('/') ? server.files + name.slice(1) : name);

  window.config = {
    routerBasename: base,
    showStudyList: true,
    extensions: [],
    modes: [],
    customizationService: {},
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    maxNumberOfWebWorkers: 3,
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    defaultDataSourceName: 'hounsfield',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'hounsfield',
        configuration: {
          friendlyName: 'Hounsfield',
          name: 'hounsfield',
          qidoRoot: root,
          wadoRoot: root,
          wadoUriRoot: root,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: true,
          supportsWildcard: false,
          supportsReject: false,
          imageRendering: 'wadors',
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true },
        },
      },
    ],
  };
  if (server.signIn) {
    window.config.oidc = [
      {
        ...server.signIn,
        redirect_uri: `${location.origin}${base}/callback`,
        // Not `${base}/`: OHIF would take its own page of studies for that of people who have signed out.
        post_logout_redirect_uri: `${location.origin}${base}/signed-out`,
        response_type: 'code',
        automaticSilentRenew: true,
        revokeAccessTokenOnSignout: true,
      },
    ];
  }
})();
