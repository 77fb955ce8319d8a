<!-- The images of tests.loopback.dachs.resource, over SIA1, SIA2, ObsTAP, DataLink and SODA.
     SERVER stands for the address of the server. -->
<resource schema="clip" resdir="clip">
  <meta name="creationDate">2026-11-20T00:00:00Z</meta>
  <meta name="title">ClipSearch loopback images</meta>
  <meta name="description">Images that test a client end to end.</meta>
  <meta name="subject">observational-astronomy</meta>
  <meta name="creator">Nobody, N.</meta>
  <meta name="instrument">CLIPCAM</meta>
  <meta name="facility">LOOPSCOPE</meta>
  <meta name="contentLevel">Research</meta>
  <meta name="type">Archive</meta>
  <meta name="coverage.waveband">Optical</meta>

  <table id="main" onDisk="True" mixin="//siap#pgs" adql="True">
    <!-- These are SQL: ObsCore is a view. -->
    <mixin
      productType="CASE WHEN kind = 'spectrum' THEN 'spectrum' ELSE 'image' END"
      calibLevel="2"
      collectionName="collection"
      targetName="object"
      facilityName="'LOOPSCOPE'"
      accessURL="CASE WHEN kind = 'linked'
        THEN 'SERVER/clip/q/dl/dlmeta?ID=' || gavo_urlescape(pub_did) ELSE accref END"
      mime="CASE WHEN kind = 'linked'
        THEN 'application/x-votable+xml;content=datalink' ELSE mime END"
      preview="CASE WHEN kind IN ('plain', 'shared')
        THEN 'SERVER/getproduct/' || accref || '?preview=True'
        WHEN kind = 'lost' THEN 'SERVER/static/nothing.jpg' END"
    >//obscore#publishSIAP</mixin>
    <!-- Every answer that has the identifiers says where their DataLink documents are. -->
    <meta name="_associatedDatalinkService">
      <meta name="serviceId">dl</meta>
      <meta name="idColumn">pub_did</meta>
    </meta>
    <column name="object" type="text" ucd="meta.id;src" tablehead="Object"
      description="Object name" verbLevel="3"/>
    <column name="collection" type="text" ucd="meta.id" tablehead="Collection"
      description="Collection of the image" verbLevel="5"/>
    <column name="kind" type="text" ucd="meta.code" tablehead="Kind"
      description="How the image is published" verbLevel="5"/>
    <column name="pub_did" type="text" ucd="meta.ref.ivoid" tablehead="PubDID"
      description="Publisher DID" verbLevel="15"/>
  </table>

  <data id="import">
    <sources pattern="data/*.fits"/>
    <fitsProdGrammar>
      <rowfilter procDef="//products#define">
        <bind key="table">"\schema.main"</bind>
        <bind key="preview">(
          "SERVER/static/nothing.jpg" if @CS_KIND == "lost"
          else "clip/previews/" + @CS_NAME + ".jpg" if @CS_PREV
          else None)</bind>
        <bind key="preview_mime">"image/jpeg" if @CS_PREV else None</bind>
        <bind key="owner">"owners" if @CS_KIND in ("shared", "closed") else None</bind>
        <bind key="embargo">(
          datetime.date(2999, 1, 1) if @CS_KIND in ("shared", "closed") else None)</bind>
      </rowfilter>
    </fitsProdGrammar>
    <make table="main">
      <rowmaker>
        <apply procDef="//siap#setMeta">
          <bind key="title">@CS_TITLE</bind>
          <bind key="dateObs">60000.5</bind>
          <bind key="bandpassId">"V"</bind>
          <bind key="bandpassRefval">5.5e-7</bind>
          <bind key="bandpassLo">5.0e-7</bind>
          <bind key="bandpassHi">6.0e-7</bind>
          <bind key="pixflags">"F"</bind>
        </apply>
        <apply procDef="//siap#computePGS"/>
        <map key="object">@CS_NAME</map>
        <map key="collection">@CS_COLL</map>
        <map key="kind">@CS_KIND</map>
        <map key="pub_did">\standardPubDID</map>
      </rowmaker>
    </make>
  </data>

  <service id="dl" allowed="dlget,dlmeta">
    <meta name="title">ClipSearch loopback links and cutouts</meta>
    <datalinkCore>
      <descriptorGenerator procDef="//soda#fits_genDesc" name="genFITSDesc">
        <bind key="accrefPrefix">'clip/data'</bind>
      </descriptorGenerator>
      <FEED source="//soda#fits_standardDLFuncs"/>
      <dataFunction name="refuseStrangers">
        <!-- DaCHS itself lets anyone cut out of proprietary images. -->
        <setup imports="gavo.svcs"/>
        <code>
          if descriptor.owner:
            raise svcs.ForbiddenURI("This image is proprietary.")
        </code>
      </dataFunction>
    </datalinkCore>
  </service>

  <service id="i" allowed="siap.xml,form">
    <meta name="shortName">clip sia1</meta>
    <meta name="sia.type">Pointed</meta>
    <meta name="testQuery.pos.ra">150</meta>
    <meta name="testQuery.pos.dec">20</meta>
    <meta name="testQuery.size.ra">1</meta>
    <meta name="testQuery.size.dec">1</meta>
    <publish render="siap.xml" sets="ivo_managed"/>
    <dbCore queriedTable="main">
      <condDesc original="//siap#protoInput"/>
      <condDesc original="//siap#humanInput"/>
    </dbCore>
  </service>
</resource>
